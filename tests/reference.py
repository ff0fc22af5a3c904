"""The specification: each rule in a few lines of plain NumPy, on one array, in place.

`h` holds the hyperparameters as the user gives them, `t` counts the array's steps from 1. What depends on `t`,
and `1 - beta`, are computed in double; every constant is then rounded once, to the array's dtype.
"""

import numpy as np


def power(beta, n):
    """Raise to a whole power by repeated squaring."""
    result = 1.0
    while n > 0:
        if n & 1:
            result *= beta
        beta *= beta
        n >>= 1
    return result


def gradient(p, g, h):
    if h["maximize"]:
        g = -g
    if h["weight_decay"]:
        g = g + p.dtype.type(h["weight_decay"]) * p
    return g


def gradient_descent(p, g, *, t, h):
    lr = p.dtype.type(h["lr"])
    p -= lr * gradient(p, g, h)


def sgd(p, g, momentum_buffer, *, t, h):
    undamped = 1 if t == 1 or not h["momentum"] else 1 - h["dampening"]
    lr, mu, undamped = map(p.dtype.type, (h["lr"], h["momentum"], undamped))
    g = gradient(p, g, h)
    momentum_buffer[...] = mu * momentum_buffer + undamped * g
    p -= lr * (g + mu * momentum_buffer if h["nesterov"] else momentum_buffer)


def momentum(p, g, velocity, *, t, h):
    lr, beta = map(p.dtype.type, (h["lr"], h["momentum"]))
    velocity[...] = beta * velocity - lr * gradient(p, g, h)
    p += velocity


def nag(p, g, velocity, *, t, h):
    lr, beta = map(p.dtype.type, (h["lr"], h["momentum"]))
    g = gradient(p, g, h)
    velocity[...] = beta * velocity - lr * g
    p += beta * velocity - lr * g


def adagrad(p, g, sum_sq, *, t, h):
    lr, eps = map(p.dtype.type, (h["lr"], h["eps"]))
    g = gradient(p, g, h)
    sum_sq += g * g
    p -= lr * g / (np.sqrt(sum_sq) + eps)


def adam(p, g, exp_avg, exp_avg_sq, *, t, h):
    b1, b2 = h["betas"]
    lr, eps, beta1, rest1, beta2, rest2, fix1, fix2 = map(
        p.dtype.type,
        (h["lr"], h["eps"], b1, 1 - b1, b2, 1 - b2, 1 / (1 - power(b1, t)), 1 / (1 - power(b2, t))),
    )
    g = gradient(p, g, h)
    exp_avg[...] = beta1 * exp_avg + rest1 * g
    exp_avg_sq[...] = beta2 * exp_avg_sq + rest2 * (g * g)
    p -= lr * (fix1 * exp_avg / (np.sqrt(fix2 * exp_avg_sq) + eps))


def adamw(p, g, exp_avg, exp_avg_sq, *, t, h):
    p *= p.dtype.type(1 - h["lr"] * h["weight_decay"])
    adam(p, g, exp_avg, exp_avg_sq, t=t, h={**h, "weight_decay": 0.0})
