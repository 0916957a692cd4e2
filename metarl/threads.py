"""Work on many tasks at once, on a few threads.

One task's activations fit a processor's cache, so tasks are worked on one by one, each on one thread. PyTorch releases
Python's lock while it computes. Results are combined in the order of the tasks: the number of threads changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from metarl.machine import available_cores

Result = TypeVar("Result")

_size = available_cores()
_pool = ThreadPoolExecutor(_size)


def set_threads(count: int) -> None:
    """Use `count` threads for work on tasks (0: all available cores); within one task, PyTorch uses a single one."""
    global _pool, _size
    torch.set_num_threads(1)
    _pool.shutdown()
    _size = count or available_cores()
    _pool = ThreadPoolExecutor(_size)


def _renew() -> None:
    """Replace the pool in a process that was forked: its threads stayed in the other process."""
    global _pool
    _pool = ThreadPoolExecutor(_size)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


@contextmanager
def on_one_thread() -> Generator[None]:
    """For networks and batches this small, PyTorch's second thread costs more than it does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def parallel_map(function: Callable[..., Result], *items: Iterable[Any]) -> list[Result]:
    """[function(*item) for item in zip(*items)], on the threads; the first exception is raised here.

    The function must not itself call `parallel_map`: it would wait for threads that all wait.
    """
    return list(_pool.map(function, *items))
