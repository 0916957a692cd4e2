"""Cores and memory that this process may use: in a container or a cluster job, less than the machine has.

The limits are those of Linux's control groups, versions 1 and 2; on other systems those of the machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
"""The folder that holds Linux's `proc` and `sys`."""


def available_cores() -> int:
    """Cores that this process may use: those of its affinity mask, or fewer if its quota of CPU time is smaller.

    The processes that torchrun has started on one machine share them out.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([bound, *_core_quotas()]) // _processes())


def _processes() -> int:
    """The number of processes that torchrun has started on this machine; 1 without torchrun."""
    number = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, int(number)) if number.isdigit() else 1


def available_memory() -> int | None:
    """Bytes that are left to this process in its container or on the machine; None if unknown."""
    left = [*_memory_left()]
    for line in _text(ROOT / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            left.append(1024 * int(line.split()[1]))
    return max(0, min(left)) if left else None


def _core_quotas() -> Iterator[int]:
    """The quota of each control group of this process, in whole cores."""
    for folder in _control_groups("cpu"):
        quota, _, period = _text(folder / "cpu.max").partition(" ")  # version 2
        if not quota:
            quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")  # version 1
        if quota.isdigit() and period.isdigit() and int(period):
            yield int(quota) // int(period)


def _memory_left() -> Iterator[int]:
    """Bytes that are left up to the limit of each control group of this process."""
    versions = (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    )
    for folder in _control_groups("memory"):
        for limit, used, reclaimable in versions:
            numbers = _text(folder / limit), _text(folder / used)
            if all(number.isdigit() for number in numbers):
                files = dict(line.split() for line in _text(folder / "memory.stat").splitlines())
                yield int(numbers[0]) - int(numbers[1]) + int(files.get(reclaimable, 0))


def _control_groups(controller: str) -> Iterator[Path]:
    """The folders of this process's control group and of its parents."""
    for line in _text(ROOT / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = ROOT / "sys/fs/cgroup" / (controller if controllers else "")
        own = mount / path.lstrip("/")
        yield from (folder for folder in (own, *own.parents) if folder == mount or mount in folder.parents)


def _text(file: Path) -> str:
    """The content of a small file; empty if it cannot be read."""
    try:
        return file.read_text().strip()
    except (OSError, ValueError):
        return ""
