"""The specification: each rule in a few lines of plain NumPy, on one array, in place.

`h` holds the hyperparameters as the user gives them, `t` counts the array's steps from 1. What depends on `t`,
and `1 - beta`, are computed in double; every constant is then rounded once, to the array's dtype. `step` is what
surrounds a rule; arrays are there as users have them, of any format.
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
    undamped = 1 if t == 1 else 1 - h["dampening"]
    lr, mu, undamped = map(p.dtype.type, (h["lr"], h["momentum"], undamped))
    step = g = gradient(p, g, h)
    if h["momentum"]:
        momentum_buffer[...] = mu * momentum_buffer + undamped * g
        step = g + mu * momentum_buffer if h["nesterov"] else momentum_buffer
    p -= lr * step


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


def reals(a):
    """Return the real and imaginary parts of a complex array side by side; another as it is."""
    return a[..., None].view(a.real.dtype) if a.dtype.kind == "c" else a


def step(rule, p, g, states, *, t, h, factor=1.0, clip_value=np.inf, master=None, average=None, decay=0.0):
    """One step on one array: 16-bit numbers are widened to float32, and rounded to nearest even when written."""
    p, g, states = reals(p), reals(g), [reals(s) for s in states]
    wide = p.dtype if p.dtype.itemsize > 2 else np.dtype(np.float32)
    theta = p.astype(wide) if master is None else master
    g = g.astype(wide) * wide.type(factor)
    limit = wide.type(clip_value)
    g = np.where(g > limit, limit, g)
    g = np.where(g < -limit, -limit, g)
    rule(theta, g, *states, t=t, h=h)
    p[...] = theta.astype(p.dtype)
    if average is not None:
        average = reals(average)
        average[...] = wide.type(decay) * average + wide.type(1 - decay) * p.astype(wide)


LANES, CHUNK = 16, 1024


def chunk_sum(terms):
    """16 lanes take every 16th term each, and are then added in pairs."""
    padded = np.zeros(-(-len(terms) // LANES) * LANES)
    padded[: len(terms)] = terms
    lanes = np.zeros(LANES)
    for row in padded.reshape(-1, LANES):
        lanes += row
    while len(lanes) > 1:
        lanes = lanes[: len(lanes) // 2] + lanes[len(lanes) // 2 :]
    return lanes[0]


def fixed_sum(terms):
    """Sum chunks, then their sums, until one is left."""
    while len(terms) > 1:
        terms = [chunk_sum(terms[k : k + CHUNK]) for k in range(0, len(terms), CHUNK)]
    return terms[0] if terms else 0.0


def in_memory_order(p, g):
    """Return the elements of `g` in the order in which those of `p` lie in memory."""
    return reals(g.transpose(sorted(range(p.ndim), key=lambda d: -abs(p.strides[d])))).ravel()


def norm(params, grads):
    """L2 norm of gradients whose squares are in range."""
    terms = []
    for p, g in zip(params, grads, strict=True):
        flat = in_memory_order(p, g).astype(np.float64)
        terms += [chunk_sum(flat[k : k + CHUNK] ** 2) for k in range(0, len(flat), CHUNK)]
    return np.sqrt(fixed_sum(terms))


def clip_factor(norm, clip_norm, grad_scale):
    """What gradients are multiplied by; `norm` is that of the gradients before division by `grad_scale`."""
    ratio = clip_norm / (norm / grad_scale + 1e-6)
    return (1.0 if ratio > 1 else ratio) / grad_scale
