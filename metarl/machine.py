"""What this process may use of the machine: in a container or a job, fewer cores and less memory than there are.

The limits are read from Linux's control groups, both versions; elsewhere the machine's own numbers count.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
"""Below which Linux describes the process and its control groups."""


def available_cores() -> int:
    """Cores that this process may use: those it is bound to, but no more than its quota of processor time fills."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([bound, *_core_quotas()]))


def available_memory() -> int | None:
    """Bytes that this process may still take before its container or the machine runs out; None where it is unknown."""
    left = [*_memory_left()]
    for line in _text(ROOT / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            left.append(1024 * int(line.split()[1]))
    return max(0, min(left)) if left else None


def _core_quotas() -> Iterator[int]:
    """Whole cores that the quota of each control group around this process fills, where it has one."""
    for folder in _control_groups("cpu"):
        quota, _, period = _text(folder / "cpu.max").partition(" ")  # version 2
        if not quota:
            quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")  # version 1
        if quota.isdigit() and period.isdigit() and int(period):
            yield int(quota) // int(period)


def _memory_left() -> Iterator[int]:
    """Bytes up to the limit of each control group around this process, where it has one."""
    versions = (
        ("memory.max", "memory.current", "inactive_file"),
        (
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    )
    for folder in _control_groups("memory"):
        for limit, used, reclaimable in versions:
            numbers = _text(folder / limit), _text(folder / used)
            if all(number.isdigit() for number in numbers):
                files = dict(line.split() for line in _text(folder / "memory.stat").splitlines())
                yield int(numbers[0]) - int(numbers[1]) + int(files.get(reclaimable, 0))


def _control_groups(controller: str) -> Iterator[Path]:
    """The folders of this process's control group and of those around it."""
    for line in _text(ROOT / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = ROOT / "sys/fs/cgroup" / (controller if controllers else "")
        own = mount / path.lstrip("/")
        yield from (folder for folder in (own, *own.parents) if folder == mount or mount in folder.parents)


def _text(file: Path) -> str:
    """The content of a small file; empty where it cannot be read."""
    try:
        return file.read_text().strip()
    except (OSError, ValueError):
        return ""
