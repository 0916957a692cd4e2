"""What a run is called in Weights & Biases (W&B): project, group, name and tags, within its limits.

What the config says comes first, then W&B's own environment variables, then what the run is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metarl.errors import UserError, shortened
from metarl.experiment import Tracking
from metarl.runs.tracking import requested_mode

FORBIDDEN = "/\\#?%:"
"""What W&B takes in no name of a project."""
LONGEST = 128
"""Letters that it takes in the name of a project, a group or a run."""
LONGEST_TAG = 64


@dataclass(frozen=True)
class Names:
    """How W&B files a run."""

    project: str
    group: str
    name: str
    tags: tuple[str, ...]
    job_type: str


def names(tracking: Tracking, *, group: str, name: str, tags: Sequence[str]) -> Names:
    """The names of a run, of which those given here are what it is called where nobody says otherwise.

    Errors: UserError where a name that the user chose is not one to W&B. Those given here are cut.
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
    """Refuse, before a run begins, a mode or a name that W&B does not take. Errors: UserError."""
    if requested_mode(tracking.mode) != "disabled":
        names(tracking, group="", name="", tags=())


def named(path: Path, seed: int) -> str:
    """The name of the run in W&B: that of its folder, with the seed unless it is part of the name."""
    name = path.resolve().name
    return name if re.search(rf"seed{seed}(?!\d)", name) else f"{name}-seed{seed}"


def _project(tracking: Tracking) -> str:
    source, project = "tracking.project", tracking.project
    if project == Tracking().project and (said := _variable("WANDB_PROJECT")):
        source, project = "WANDB_PROJECT", said
    if not project.strip():
        raise UserError(
            f"{source} = {project!r}: a project of W&B has a name. Choose one, or --tracking.mode disabled."
        )
    if found := sorted({letter for letter in project if letter in FORBIDDEN}):
        raise UserError(
            f"{source} = {shortened(project)!r}: W&B takes no {' '.join(found)} in the name of a project. Leave out "
            f"{' '.join(FORBIDDEN)}"
        )
    return _checked(source, project)


def _group(tracking: Tracking) -> str:
    return _checked("tracking.group", tracking.group) if tracking.group else _variable("WANDB_RUN_GROUP")


def _tags(tracking: Tracking) -> list[str]:
    """The user's own; an empty one is refused in the config and skipped in the variable."""
    if tracking.tags:
        return [_checked("tracking.tags", tag, LONGEST_TAG) for tag in tracking.tags]
    said = [tag.strip() for tag in os.environ.get("WANDB_TAGS", "").split(",")]
    return [_checked("WANDB_TAGS", tag, LONGEST_TAG) for tag in said if tag]


def _variable(name: str) -> str:
    """What an environment variable says, checked; empty where it says nothing."""
    value = os.environ.get(name, "").strip()
    return _checked(name, value) if value else ""


def _checked(source: str, text: str, most: int = LONGEST) -> str:
    if not 1 <= len(text) <= most:
        raise UserError(f"{source}: {shortened(repr(text))} has {len(text)} letters, and W&B takes 1 to {most}")
    return text


def _cut(text: str, most: int = LONGEST) -> str:
    """A text of our own, made to fit; what is no UTF-8 in a folder's name is replaced."""
    return text.encode(errors="replace").decode()[:most]
