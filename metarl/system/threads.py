"""Computations for many tasks on a few threads.

Each task is computed on one thread, because its activations fit a processor's cache. PyTorch releases Python's lock
while it computes. Results are combined in the order of the tasks, so that they do not depend on the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from metarl.system.machine import available_cores

Result = TypeVar("Result")

_size = available_cores()
_pool = ThreadPoolExecutor(_size)


def set_threads(count: int) -> None:
    """Use `count` threads for tasks (0: all available cores), and one thread of PyTorch within a task."""
    global _pool, _size
    torch.set_num_threads(1)
    _pool.shutdown()
    _size = count or available_cores()
    _pool = ThreadPoolExecutor(_size)


def _renew() -> None:
    """Replace the pool in a forked process, because threads do not survive a fork."""
    global _pool
    _pool = ThreadPoolExecutor(_size)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


@contextmanager
def on_one_thread() -> Generator[None]:
    """Use one thread of PyTorch: for small networks and batches, more threads are slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def parallel_map(function: Callable[..., Result], *items: Iterable[Any]) -> list[Result]:
    """[function(*item) for item in zip(*items)], computed on the threads; raises the first exception of the function.

    The function must not call `parallel_map` itself: all threads would wait for each other.
    """
    return list(_pool.map(function, *items))
