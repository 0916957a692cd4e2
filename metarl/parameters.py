"""Arithmetic on parameters as values: `dict[str, Tensor]` in, new `dict[str, Tensor]` out."""

from __future__ import annotations

import torch
from torch import Tensor

from metarl.types import Params


def expand(params: Params, num_tasks: int) -> Params:
    """One copy per task, (M, ...), without copying memory."""
    return {name: p.expand(num_tasks, *p.shape) for name, p in params.items()}


def chunk(params: Params, chosen: slice) -> Params:
    """The parameters of the chosen tasks."""
    return {name: p[chosen] for name, p in params.items()}


def leaves(params: Params) -> Params:
    """The same values as fresh autograd leaves, to differentiate with respect to."""
    return {name: p.detach().clone().requires_grad_() for name, p in params.items()}


def detach(params: Params) -> Params:
    """The same values without their history."""
    return {name: p.detach() for name, p in params.items()}


def flatten(params: Params) -> Tensor:
    """All parameters as one vector (P,), in the order of the dictionary."""
    return torch.cat([p.reshape(-1) for p in params.values()])


def unflatten(vector: Tensor, like: Params) -> Params:
    """The inverse of `flatten`: the vector (P,) with the names and shapes of `like`."""
    parts = vector.split([p.numel() for p in like.values()])
    return {name: part.view_as(p) for (name, p), part in zip(like.items(), parts, strict=True)}


def add(params: Params, step: Tensor) -> Params:
    """theta plus a step that is given as one vector (P,)."""
    return unflatten(flatten(params) + step, params)
