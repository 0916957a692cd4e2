"""Work on many tasks at once, on a few threads.

One task's activations fit a processor's cache, so tasks are worked on one by one, each on one thread. PyTorch releases
Python's lock while it computes. Results are combined in the order of the tasks: the number of threads changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_pool = ThreadPoolExecutor(os.cpu_count())


def set_threads(count: int) -> None:
    """Use `count` threads for work on tasks (0: all cores); within one task, PyTorch uses a single one."""
    global _pool
    torch.set_num_threads(1)
    _pool.shutdown()
    _pool = ThreadPoolExecutor(count or os.cpu_count())


def map_tasks(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """[function(item) for item in items], on the threads; the first exception is raised here."""
    return list(_pool.map(function, items))


def each_task(num_tasks: int) -> list[slice]:
    """A slice for each task, to work on one at a time."""
    return [slice(m, m + 1) for m in range(num_tasks)]
