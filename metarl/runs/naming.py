"""Project, group, name, tags and job type of a run in Weights & Biases (W&B), within its limits.

Settings come first, then W&B's environment variables, then defaults made of the run's family, algorithm and folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metarl.errors import UserError, shortened
from metarl.experiment import Tracking
from metarl.runs.wandb_run import check_variables, requested_mode

FORBIDDEN = "/\\#?%:"
"""Characters that W&B refuses in the name of a project."""
LONGEST = 128
"""Greatest length of the name of a project, a group or a run in W&B."""
LONGEST_TAG = 64
"""Greatest length of a tag in W&B."""


@dataclass(frozen=True)
class Names:
    """Where W&B lists a run."""

    project: str
    group: str
    name: str
    tags: tuple[str, ...]
    job_type: str


def names(tracking: Tracking, *, group: str, name: str, tags: Sequence[str]) -> Names:
    """The names of a run.

    Args:
        tracking: names that the user chose; they come first.
        group, name, tags: default group and name, and tags of every run; they are cut to W&B's limits.

    Errors: UserError where W&B refuses a name that the user chose, in the settings or in an environment variable.
    """
    project, chosen_group = _project(tracking), _group(tracking)
    return Names(
        project=project,
        group=chosen_group or _cut(group),
        name=_variable("WANDB_NAME") or _cut(name),
        tags=(*(_cut(tag, LONGEST_TAG) for tag in tags if tag), *_tags(tracking)),
        job_type=_variable("WANDB_JOB_TYPE") or "train",
    )


def check_tracking(tracking: Tracking) -> None:
    """Raise UserError, before a run begins, for a mode, a name or an environment variable that W&B refuses."""
    if requested_mode(tracking.mode) != "disabled":
        names(tracking, group="", name="", tags=())
        check_variables()


def named(path: Path, seed: int) -> str:
    """The default name of a run in W&B: that of its folder, with the seed if it does not contain it."""
    name = path.resolve().name
    return name if re.search(rf"seed{seed}(?!\d)", name) else f"{name}-seed{seed}"


def _project(tracking: Tracking) -> str:
    source, project = "tracking.project", tracking.project
    if project == Tracking().project and (said := _variable("WANDB_PROJECT")):
        source, project = "WANDB_PROJECT", said
    if not project.strip():
        raise UserError(
            f"{source} = {project!r}: W&B needs the name of a project. Choose one, or --tracking.mode disabled."
        )
    if found := sorted({letter for letter in project if letter in FORBIDDEN}):
        raise UserError(
            f"{source} = {shortened(project)!r}: W&B refuses {' '.join(found)} in the name of a project. Leave out "
            f"{' '.join(FORBIDDEN)}"
        )
    return _checked(source, project)


def _group(tracking: Tracking) -> str:
    return _checked("tracking.group", tracking.group) if tracking.group else _variable("WANDB_RUN_GROUP")


def _tags(tracking: Tracking) -> list[str]:
    """Tags that the user chose. An empty one is refused in the settings and skipped in WANDB_TAGS."""
    if tracking.tags:
        return [_checked("tracking.tags", tag, LONGEST_TAG) for tag in tracking.tags]
    said = [tag.strip() for tag in os.environ.get("WANDB_TAGS", "").split(",")]
    return [_checked("WANDB_TAGS", tag, LONGEST_TAG) for tag in said if tag]


def _variable(name: str) -> str:
    """The value of an environment variable, checked; empty where it is not set."""
    value = os.environ.get(name, "").strip()
    return _checked(name, value) if value else ""


def _checked(source: str, text: str, most: int = LONGEST) -> str:
    if not 1 <= len(text) <= most:
        raise UserError(f"{source}: {shortened(repr(text))} has {len(text)} characters; W&B accepts 1 to {most}")
    return text


def _cut(text: str, most: int = LONGEST) -> str:
    """A default name, cut to the limit; bytes of a folder's name that are not UTF-8 are replaced."""
    return text.encode(errors="replace").decode()[:most]
