"""JAX: optax's update, jitted, its buffers donated."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bench.case import Absent, Contestant
from bench.work import RULES, Rule, Work, complete


def optax_jitted(work: Work) -> Contestant:
    """Compile the whole step, and wait for its result."""
    if work.surrounded or work.dtype != "float32":
        raise Absent("was given the plain rule on float32 only")
    rule, jitted = _jitted(work.rule)
    params, grads = ([jnp.array(a) for a in arrays] for arrays in (work.params(), work.grads()))
    state = rule.init(params)

    def step() -> None:
        nonlocal params, state
        params, state = jitted(params, state, grads)
        jax.block_until_ready(params)

    def fetch() -> None:
        grads[:] = [jnp.array(g) for g in work.grads()]

    made = Contestant(step, lambda: [np.asarray(p) for p in params], fetch=fetch, copies=2 * work.nbytes_of_params)
    if work.rule == "Adagrad":  # eps would be added elsewhere, so that there is none
        return replace(made, expected=lambda: work.expected(eps=0.0))
    return made


@functools.cache
def _jitted(name: str) -> tuple[optax.GradientTransformation, Any]:
    """Return a rule and its step, which is compiled once a process for arrays of the same shapes."""
    rule = _rule(RULES[name])

    def update(params: list[jax.Array], state: object, grads: list[jax.Array]) -> tuple[list[jax.Array], object]:
        updates, state = rule.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return rule, jax.jit(update, donate_argnums=(0, 1))


def _rule(rule: Rule) -> optax.GradientTransformation:
    h = complete(rule.hypers)
    match rule.cls:
        case "GradientDescent" | "SGD":
            return optax.sgd(h["lr"], momentum=h["momentum"] or None, nesterov=h["nesterov"])
        case "Adagrad":
            return optax.adagrad(h["lr"], initial_accumulator_value=0.0, eps=0.0)
        case "Adam":
            return optax.adam(h["lr"], *h["betas"], eps=h["eps"])
        case "AdamW":
            return optax.adamw(h["lr"], *h["betas"], eps=h["eps"], weight_decay=h["weight_decay"])
    raise Absent("optax has no such rule")
