"""Functions of parameters: they take a `dict[str, Tensor]` and return a new one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from metarl.errors import NonFinite
from metarl.types import Params


def expand(params: Params, num_tasks: int) -> Params:
    """One copy per task, (M, ...), without copying memory."""
    return {name: p.expand(num_tasks, *p.shape) for name, p in params.items()}


def select(params: Params, chosen: slice) -> Params:
    """The parameters of the chosen tasks, of parameters (M, ...)."""
    return {name: p[chosen] for name, p in params.items()}


def concatenate(parts: Sequence[Params]) -> Params:
    """The parameters of several groups of tasks, (M_1, ...), (M_2, ...), …, in one: (M_1 + M_2 + …, ...)."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def leaves(params: Params, names: Iterable[str] | None = None) -> Params:
    """The parameters of these names (None: all) as fresh autograd leaves, to differentiate with respect to."""
    return {name: params[name].detach().clone().requires_grad_() for name in (params if names is None else names)}


def detach(params: Params) -> Params:
    """The parameters without their autograd history."""
    return {name: p.detach() for name, p in params.items()}


def require_finite(params: Params, after: str) -> None:
    """Raise NonFinite for parameters that are not finite, before they are used or saved; `after` names the step."""
    for name, p in params.items():
        if not torch.isfinite(p).all():
            raise NonFinite(f"{name} is not finite after {after}")


def require_finite_tasks(params: Params, after: str, first_task: int = 0) -> None:
    """The same for one set of parameters per task, (M, ...), of which `first_task` is the index of the first one."""
    for m in range(len(next(iter(params.values())))):
        require_finite({f"{name} of task {first_task + m}": p[m] for name, p in params.items()}, after)


def flatten(params: Params) -> Tensor:
    """All parameters as one vector (P,), in the order of the dictionary."""
    return torch.cat([p.reshape(-1) for p in params.values()])


def unflatten(vector: Tensor, like: Params) -> Params:
    """The inverse of `flatten`: the vector (P,) with the names and shapes of `like`."""
    parts = vector.split([p.numel() for p in like.values()])
    return {name: part.view_as(p) for (name, p), part in zip(like.items(), parts, strict=True)}


def rows(params: Params) -> Tensor:
    """All parameters of each task, (M, ...), as one vector for each, (M, P)."""
    return torch.cat([p.reshape(len(p), -1) for p in params.values()], 1)


def add(params: Params, step: Tensor) -> Params:
    """theta + step, with the step as one vector (P,)."""
    return unflatten(flatten(params) + step, params)
