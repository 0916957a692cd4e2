"""The test tasks of an evaluation, as objects of its environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metarl.errors import UserError
from metarl.experiment.builders import fixed_tasks
from metarl.results import records
from metarl.results.records import Record
from metarl.sampling.protocols import TaskVectorEnv


def tasks_of(record: Record, env: TaskVectorEnv) -> Sequence[Any]:
    """The M tasks of an evaluation. Errors: UserError where the family's test tasks have changed since."""
    tasks = fixed_tasks(env, record.split, len(record.tasks))
    now = map(env.task_space.to_dict, tasks)
    if not all(_same(task, then) for task, then in zip(now, record.tasks, strict=True)):
        again = records.command(record.run, record.split, record)
        raise UserError(
            f"{record.run} was evaluated on other {record.split} tasks than {record.environment} has now. "
            f"Evaluate it again:\n  {again}"
        )
    return tasks


def _same(task: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two tasks as plain data are equal, up to rounding."""
    return task.keys() == other.keys() and all(_close(task[name], other[name]) for name in task)


def _close(value: Any, other: Any) -> bool:
    try:
        return np.allclose(value, other)
    except (TypeError, ValueError):  # text, or arrays of other shapes
        return value == other
