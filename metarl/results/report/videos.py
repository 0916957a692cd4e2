"""Videos of the easiest, the median and the hardest test task, before and after adaptation."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metarl import runs
from metarl.errors import UserError
from metarl.experiment.builders import check_can_be_filmed, initial_params, make_policy, make_vector_env
from metarl.experiment.evaluation import AdaptationReturns, evaluate
from metarl.figures.video import RenderingUnavailable, last_frame
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.results.records import META, Record
from metarl.results.report.run_data import RunData
from metarl.runs.publish import VIDEOS, record_video

COARSENESS = 26
"""Of the encoding (see `write_mp4`): half the size of the videos of training, because the page shows them smaller."""
BUDGET = 6_500_000
"""[byte] of all videos of a page. In base64 they need a third more."""


@dataclass(frozen=True)
class Video:
    """One task, before adaptation on the left and after it on the right."""

    level: str
    """easiest, median or hardest."""
    task: int
    """Index of the test task."""
    mp4: bytes
    poster: bytes
    """The last frame, as JPEG."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height [px]."""
        return Image.open(io.BytesIO(self.poster)).size


@dataclass(frozen=True)
class Videos:
    """The videos, and the reason why some are missing."""

    videos: tuple[Video, ...] = ()
    missing: str = ""
    """One sentence; empty where nothing is missing."""


def data_url(content: bytes, kind: str) -> str:
    """A data URL that contains `content`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def chosen(returns: NDArray[np.floating]) -> dict[str, int]:
    """Level -> index of the task with the highest, the median and the lowest return.

    Args:
        returns: (M,) after adaptation; NaN where all episodes diverged. Such tasks are not chosen, and none is chosen
            twice.
    """
    order = [int(m) for m in np.argsort(-returns) if np.isfinite(returns[m])]
    last = len(order) - 1
    places = {"easiest": 0, "median": (last + 1) // 2, "hardest": last}
    if last < 2:
        places = {level: place for level, place in places.items() if level != "median"}
    return {level: order[place] for level, place in list(places.items())[: len(order)]}


def make(run: RunData, record: Record, tasks: Sequence[Any]) -> Videos:
    """The three videos, from the run directory if they are newer than the evaluation, else made now.

    For a new video, the policy adapts to all test tasks again with the seed of the evaluation. So the filmed policy is
    the one that was measured.
    """
    levels = chosen(record.returns[META][:, -1])
    files = {level: file_of(run.folder, record.split, level) for level in levels}
    try:
        if not all(_newer(file, run.file) for file in files.values()):
            if run.outdated:
                return Videos(missing="The policy was trained further since the evaluation: evaluate it again.")
            _record(run, record, tasks, {files[level]: m for level, m in levels.items()})
        found = [Video(level, m, files[level].read_bytes(), last_frame(files[level])) for level, m in levels.items()]
    except Exception as error:  # without videos, the page is still written
        known = isinstance(error, RenderingUnavailable | UserError)
        return Videos(missing=f"No videos: {error if known else f'{type(error).__name__}: {error}'}")
    return within(BUDGET, found, files)


def file_of(folder: Path, split: str, level: str) -> Path:
    """The file of a video."""
    return folder / VIDEOS / f"report-{split}-{level}.mp4"


def within(budget: int, videos: list[Video], files: Mapping[str, Path]) -> Videos:
    """The first videos that together fit into `budget` [byte]; `missing` names the others."""
    total = np.cumsum([len(video.mp4) for video in videos])
    kept = tuple(video for video, size in zip(videos, total, strict=True) if size <= budget)
    left = [str(files[video.level]) for video in videos[len(kept) :]]
    return Videos(kept, f"Too large for this page: {', '.join(left)}." if left else "")


def adapt_again(run: RunData, record: Record, tasks: Sequence[Any]) -> tuple[GaussianMLP, AdaptationReturns]:
    """Repeat the evaluation of the trained policy, for its parameters after each step."""
    experiment = run.experiment
    env = make_vector_env(experiment.env, len(tasks) * record.episodes, experiment.threads)
    policy = make_policy(experiment, env)
    runs.check_shapes(run.folder / runs.CHECKPOINT, run.state.params, initial_params(policy, experiment))
    as_measured = replace(experiment, evaluation=replace(experiment.evaluation, later_steps=record.later_steps))
    result = evaluate(env, policy, run.state.params, as_measured, tasks, steps=record.steps, seed=record.seed)
    env.close()
    return policy, result


def _record(run: RunData, record: Record, tasks: Sequence[Any], wanted: Mapping[Path, int]) -> None:
    environment = run.experiment.env
    check_can_be_filmed(environment.id)
    policy, result = adapt_again(run, record, tasks)
    for file, m in wanted.items():
        record_video(environment, policy, tasks[m], result.of_task(m), file, COARSENESS)


def _newer(file: Path, other: Path | None) -> bool:
    return other is not None and file.exists() and file.stat().st_mtime >= other.stat().st_mtime
