"""The optimizers of PyTorch as functions: parameters and state in, new parameters and state out."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch

from metarl.types import AlgorithmState, Params

Optimizer = Literal["sgd", "adam"]


def step(
    kind: Optimizer, params: Params, gradient: Params, state: AlgorithmState, learning_rate: float
) -> tuple[Params, AlgorithmState]:
    """One step down the gradient.

    Args:
        kind: plain gradient descent, or Adam (Kingma & Ba 2015).
        params, gradient: with the same names and shapes.
        state: as the previous step returned it; empty at the start.
        learning_rate: beta of the papers' outer loop.

    Returns:
        New parameters and state; the arguments are not changed.
    """
    new = {name: p.detach().clone() for name, p in params.items()}
    make = torch.optim.Adam if kind == "adam" else torch.optim.SGD
    optimizer = make(list(new.values()), lr=learning_rate)
    if state:
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": copy.deepcopy(state), "param_groups": groups})
    for name, p in new.items():
        p.grad = gradient[name]
    optimizer.step()
    for p in new.values():
        p.grad = None
    return new, optimizer.state_dict()["state"]


def check_state(state: AlgorithmState, params: Params) -> None:
    """Raise ValueError where the optimizer's part of an algorithm's state, if any, is not of these parameters."""
    own = {key: value for key, value in state.items() if isinstance(key, int)}
    found = state.get("adam", state.get("optimizer", own))
    gradient = {name: torch.zeros_like(p) for name, p in params.items()}
    if found and _form(found) != _form(step("adam", params, gradient, {}, 0.0)[1]):  # gradient descent keeps nothing
        raise ValueError("the state of its optimizer is not that of its parameters")


def _form(state: Any) -> Any:
    """The keys, types and shapes of an optimizer's state."""
    if isinstance(state, dict):
        return {key: _form(value) for key, value in state.items()}
    return (state.dtype, state.shape) if isinstance(state, torch.Tensor) else type(state)


def annealed(first: float, last: float, iterations: int, done: int) -> float:
    """A setting that changes linearly from `first` to `last` during training, after `done` outer iterations.

    Args:
        first, last: values at the start and at the end of the annealing.
        iterations: how long the annealing takes; after it, the value stays `last`. 0: the value is always `first`.
        done: outer iterations done.
    """
    share = min(done / iterations, 1.0) if iterations else 0.0
    return (1 - share) * first + share * last


def check_annealing(name: str, last: float, iterations: int) -> None:
    """Raise ValueError if `name`, the setting for the last value, is given without a number of iterations."""
    if last and not iterations:
        raise ValueError(f"{name} without anneal_iterations: say over how many iterations to anneal")
