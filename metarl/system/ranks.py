"""Data parallel over tasks: torchrun starts R processes, the ranks, and each of them computes some of the M tasks.

Rank r has the neighbouring tasks `share(M)`. It samples their episodes, adapts to them, and differentiates through
that; only sums over tasks, and a few numbers for each task, are exchanged. After each exchange all ranks know the same
and continue alike. Without torchrun there is one rank, which has all tasks, and nothing is exchanged.

A sum over tasks is a binary tree: the sum of the first half of the tasks plus that of the second half, and so on within
the halves. Each rank adds up those branches of which it has all tasks. So the order of additions depends on M alone,
and the result has the same bits for any number of ranks.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from metarl.errors import RunFailed

Result = TypeVar("Result")

TIMEOUT = timedelta(minutes=10)
"""Time after which a rank that waits for another one gives up."""
NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""The environment variables by which a launcher tells a process of the others."""

_rank, _world = 0, 1


class RankLost(RunFailed):
    """Another rank ended, or cannot be reached."""


def is_first() -> bool:
    """Whether this is rank 0, which alone writes, prints and talks to W&B."""
    return _rank == 0


def count() -> int:
    """R, the number of ranks."""
    return _world


# ------------------------------------------------------------------------------------------ sums over tasks
def share(tasks: int, rank: int | None = None) -> slice:
    """The tasks of a rank (by default this one), of so many in all."""
    rank = _rank if rank is None else rank
    return slice(tasks * rank // _world, tasks * (rank + 1) // _world)


def gather(values: Tensor, tasks: int) -> Tensor:
    """Values (m, ...) of this rank's share of M tasks -> those of all tasks, (M, ...)."""
    if _world == 1:
        return values
    sizes = [len(range(tasks)[share(tasks, rank)]) for rank in range(_world)]
    return torch.cat([part[:size] for part, size in zip(_exchange(values, max(sizes)), sizes, strict=True)])


def total(values: Tensor, tasks: int) -> Tensor:
    """Values (m, ...) of this rank's share of M tasks -> their sum over all tasks, (...)."""
    own = range(tasks)[share(tasks)]
    known = {(i, i + 1): value for i, value in zip(own, values, strict=True)}
    if _world > 1:
        branches = [_branches(0, tasks, share(tasks, rank)) for rank in range(_world)]
        sums = torch.stack([_sum(known, *branch) for branch in branches[_rank]])
        parts = _exchange(sums, max(map(len, branches)))
        found = [pair for each, rows in zip(branches, parts, strict=True) for pair in zip(each, rows, strict=False)]
        known = dict(found)
    return _sum(known, 0, tasks)


def mean(values: Tensor, tasks: int) -> Tensor:
    """Values (m, ...) of this rank's share of M tasks -> their mean over all tasks, (...)."""
    return total(values, tasks) / tasks


def _branches(first: int, stop: int, own: slice) -> list[tuple[int, int]]:
    """The largest branches of the tree over tasks first … stop-1 that lie within `own`, as (first, stop)."""
    if own.start <= first and stop <= own.stop:
        return [(first, stop)]
    if stop <= own.start or own.stop <= first:
        return []
    middle = (first + stop) // 2
    return _branches(first, middle, own) + _branches(middle, stop, own)


def _sum(known: Mapping[tuple[int, int], Tensor], first: int, stop: int) -> Tensor:
    """The sum over tasks first … stop-1, of known branches."""
    if (first, stop) in known:
        return known[first, stop]
    middle = (first + stop) // 2
    return _sum(known, first, middle) + _sum(known, middle, stop)


def _exchange(values: Tensor, rows: int) -> list[Tensor]:
    """The values of each rank, (n_r, ...), filled up to `rows` rows."""
    padded = values.new_zeros(rows, *values.shape[1:])
    padded[: len(values)] = values
    parts = [torch.empty_like(padded) for _ in range(_world)]
    with _losses_named():
        dist.all_gather(parts, padded)
    return parts


# ------------------------------------------------------------------------------------------- one program
def from_first(function: Callable[[], Result]) -> Result:
    """Call the function on rank 0 alone, and give its result, which must be picklable, to all ranks."""
    if _world == 1:
        return function()
    result: list[Any] = [function() if is_first() else None]
    with _losses_named():
        dist.broadcast_object_list(result, src=0)
    return result[0]


def from_all(value: Result) -> list[Result]:
    """The value, which must be picklable, of each rank."""
    if _world == 1:
        return [value]
    values: list[Any] = [None] * _world
    with _losses_named():
        dist.all_gather_object(values, value)
    return values


@contextmanager
def joined() -> Generator[None]:
    """Join the other processes that torchrun has started, if it started this one.

    Within it, only rank 0 writes to stdout, and only one rank shows its error: the first. The others end silently.

    Errors: RankLost if the others cannot be reached.
    """
    global _rank, _world
    if not all(os.environ.get(name) for name in NEEDED) or os.environ["WORLD_SIZE"] == "1":
        yield
        return
    store = None
    try:
        with _losses_named():
            store, _rank, _world = next(dist.rendezvous("env://", timeout=TIMEOUT))
            dist.init_process_group("gloo", store=store, rank=_rank, world_size=_world, timeout=TIMEOUT)
        if _rank:
            _be_silent()
        yield
    except Exception:
        if store is not None and not _speaks(store):
            sys.exit(1)
        raise
    except KeyboardInterrupt as error:
        if _rank:
            sys.exit(128 + getattr(error, "signum", 2))
        raise
    finally:
        _rank, _world = 0, 1
        if dist.is_initialized():
            dist.destroy_process_group()


def _be_silent() -> None:
    """Discard what is printed, and warnings other than those of single tasks."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warnings.simplefilter("ignore")
    warnings.filterwarnings("default", message=".*simulations diverged")


def _speaks(store: dist.Store) -> bool:
    """Whether this is the first rank that fails, which shows its error."""
    try:
        return store.add("failed", 1) == 1
    except RuntimeError:  # the store ended with its rank or launcher
        return True


@contextmanager
def _losses_named() -> Generator[None]:
    """Turn an error of torch.distributed into RankLost."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        reason = " ".join(str(error).split())
        raise RankLost(
            f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']} lost another rank, which ended or did not answer "
            f"for {TIMEOUT.total_seconds():.0f} s. The ranks meet at {address}. {reason[:300]}"
        ) from error
