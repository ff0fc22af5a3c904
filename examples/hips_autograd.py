r"""Gradients from HIPS autograd: the length and the damping of a pendulum, learnt from films of it.

The model is a simulation: the angle obeys :math:`\ddot\varphi = -\frac{g}{l} \sin \varphi - c \dot\varphi`, integrated
in small steps. Its loss is the mean squared difference from what was observed, with noise. Backpropagation through all
steps of it is nothing that one wants to write by hand; autograd derives it from the simulation, written in its NumPy.
It returns gradients in the container of the parameters, which is what gradstep takes. Both parameters are positive, so
their logarithms are learnt.
"""

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad

import gradstep as gs
from _shared import panels, run

G, DT, STEPS, FILMS, NOISE = 9.81, 0.05, 60, 64, 0.05
LENGTH, DAMPING = 1.3, 0.4


def simulate(params, start):
    """Return the angles at each time, one row a film, from those at the start, at rest."""
    pull, damping = G / anp.exp(params["log_length"]), anp.exp(params["log_damping"])
    angle, speed, angles = start, anp.zeros_like(start), []
    for _ in range(STEPS):
        speed = speed - DT * (pull * anp.sin(angle) + damping * speed)
        angle = angle + DT * speed
        angles.append(angle)
    return anp.stack(angles, axis=1)


def loss(params, start, observed):
    return anp.mean((simulate(params, start) - observed) ** 2)


def main():
    rng = np.random.default_rng(0)
    truth = {"log_length": np.log(LENGTH), "log_damping": np.log(DAMPING)}
    start = rng.uniform(-2, 2, FILMS)
    observed = simulate(truth, start)
    observed = observed + NOISE * rng.standard_normal(observed.shape)

    params = {"log_length": np.array(0.0), "log_damping": np.array(0.0)}
    figure, (left, right) = panels()
    right.plot(observed[0], ".", color="grey", label="observed")
    right.plot(simulate(params, start[:1])[0], label="before training")
    batches = gs.data.minibatches(start, observed, batch_size=16, epochs=25, seed=0)
    opt = gs.Adam(params, lr=gs.schedules.cosine(0.05, steps=len(batches)))
    result = gs.fit(value_and_grad(loss), params, batches, opt)
    print(f"length: {np.exp(params['log_length']):.3f} m, in truth {LENGTH}")
    print(f"damping: {np.exp(params['log_damping']):.3f} / s, in truth {DAMPING}")
    print(f"loss: {result.history.epoch_loss[-1]:.5f}, noise squared: {NOISE**2:.5f}")
    right.plot(simulate(params, start[:1])[0], label="after training")
    right.set(xlabel="picture of the film", ylabel="angle")
    right.legend()
    gs.plot.history(result, ax=left).set_yscale("log")
    return figure


if __name__ == "__main__":
    run(main)
