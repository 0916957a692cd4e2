"""What a run publishes after a test: summary, checkpoint, learning curve, and videos before and after adaptation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metarl import runs
from metarl.errors import warns_only
from metarl.experiment import Environment, Experiment
from metarl.experiment.builders import make_single_env
from metarl.experiment.evaluation import AdaptationReturns
from metarl.figures import adaptation
from metarl.figures.style import Target
from metarl.figures.video import record_episode, side_by_side, write_mp4
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.runs.directory import State
from metarl.runs.metrics import TRAINING_S, read_metrics
from metarl.runs.tracking import Tracker
from metarl.sampling.protocols import family_name, set_task
from metarl.seeding import Purpose, stream
from metarl.statistics import Curve, Estimate
from metarl.types import Params

VIDEOS, LEARNING = "videos", "learning.png"
LONGEST_VIDEO = 300
"""Greatest number of steps in a video: frames are kept in memory, 0.7 MB each."""


@dataclass(frozen=True)
class Learning:
    """Returns in training so far: of I iterations, and of J tests in between."""

    steps: NDArray[np.integer]
    """(I,) environment steps of all tasks before each iteration."""
    before: NDArray[np.floating]
    """(I,) mean return on training tasks before adaptation; NaN where it was not finite."""
    after: NDArray[np.floating]
    """(I,) mean return on training tasks after adaptation; NaN where it was not finite."""
    tested_at: NDArray[np.integer]
    """(J,) environment steps before each test."""
    tested: Curve
    """(J,) mean return on the test tasks after the last adaptation step, with the spread over tasks."""
    clock: NDArray[np.floating]
    """(2, C) environment steps, ascending, and the seconds of training at them; C = 0 where metrics.jsonl has none."""


def publish_test(
    experiment: Experiment,
    run_dir: Path,
    state: State,
    policy: GaussianMLP,
    tasks: Sequence[Any],
    result: AdaptationReturns,
    tracker: Tracker,
) -> None:
    """Publish a test: set the summary, log the checkpoint as an artifact, and write best.pt if it is the best so far.

    At the end of training, also draw the learning curve and film test tasks; with `evaluation.film: always`, film after
    every test.
    """
    at = {"iteration": state.iteration, "environment_steps": state.environment_steps}
    before, after = (float(np.nanmean(result.means[:, k])) for k in (0, -1))
    best = runs.keep_best(run_dir, experiment, state, after)
    tested = {"return_before_adaptation": before, "return_after_adaptation": after, "gain": after - before}
    # W&B's own maximum would start again when a run is resumed.
    tracker.summary({**tested, "best_return_after_adaptation": best})
    aliases = ["latest", "best"] if after == best else ["latest"]
    tracker.artifact(run_dir / runs.CHECKPOINT, f"checkpoint-{runs.read_id(run_dir)}", "model", aliases, at | tested)
    ended = state.iteration == experiment.iterations
    if ended:
        with warns_only(f"no picture {run_dir / LEARNING}"):
            if learned := learning(experiment, run_dir):
                draw_learning(run_dir / LEARNING, experiment, learned, title_of(experiment))
                tracker.media("figures/learning", run_dir / LEARNING, "return on training tasks and in the test", **at)
    if ended or experiment.evaluation.film == "always":
        made = make_videos(experiment.env, policy, tasks, result, experiment.evaluation.videos, run_dir / VIDEOS)
        log_videos(made, tasks, result, tracker, at)


def log_videos(
    made: Sequence[tuple[int, Path]],
    tasks: Sequence[Any],
    result: AdaptationReturns,
    tracker: Tracker,
    at: Mapping[str, int],
) -> None:
    """Log videos of test tasks, each by itself and all in a table with their returns."""
    rows = []
    for m, path in made:
        before, after = result.means[m, [0, -1]].tolist()
        rows.append([tasks[m].label, before, after, after - before, path])
        tracker.media(f"rollouts/{path.stem}", path, f"before and after adaptation: {tasks[m].label}", **at)
    if rows:
        tracker.table("rollouts/tasks", ["task", "return before", "return after", "gain", "video"], rows, **at)


def learning(experiment: Experiment, run_dir: Path) -> Learning | None:
    """The returns in metrics.jsonl; None before the first iteration and the first test."""
    rows = read_metrics(run_dir / runs.METRICS)

    def columns(*names: str) -> list[NDArray[np.floating]]:
        """The values of these names, an array each, from the rows that have numbers for all of them."""
        chosen = [[row.get(name) for name in names] for row in rows if row.get(names[0]) is not None]
        whole = [values for values in chosen if all(isinstance(value, int | float) for value in values)]
        return list(np.array(whole, dtype=float).reshape(-1, len(names)).T)

    after, before, steps = columns("train/return_after", "train/return_before", "environment_steps")
    name = f"{section_of(experiment)}/return_{experiment.evaluation.steps}_steps"
    found, at = columns(name, "environment_steps")
    if not len(after) or not len(found):
        return None
    spread, known_at = columns(f"{name}_spread_over_tasks", "environment_steps")  # absent in files of version 0.1
    known = dict(zip(known_at.tolist(), spread.tolist(), strict=True))
    tested = [
        Estimate(value, spread=known.get(step, np.nan)) for value, step in zip(found.tolist(), at.tolist(), strict=True)
    ]
    clocks = [columns(of, "environment_steps", TRAINING_S)[1:] for of in ("train/return_after", name)]
    clock = np.unique(np.hstack(clocks), axis=1)
    return Learning(steps.astype(int), before, after, at.astype(int), tested, clock)


def draw_learning(target: Target, experiment: Experiment, learned: Learning, title: str) -> None:
    """Draw the learning curve of a run."""
    adaptation.learning_curve(
        target,
        learned.steps,
        learned.before,
        learned.after,
        title,
        tested=(learned.tested_at, learned.tested),
        tested_on=experiment.evaluation.split,
        clock=learned.clock,
    )


def title_of(experiment: Experiment) -> str:
    """`FAMILY, ALGORITHM`: the title of figures of one run."""
    return f"{family_name(experiment.env.id)}, {experiment.algorithm.name}"


def section_of(experiment: Experiment) -> str:
    """The first part of the test's metric names: its split, with underscores."""
    return experiment.evaluation.split.replace("-", "_")


def make_videos(
    environment: Environment,
    policy: GaussianMLP,
    tasks: Sequence[Any],
    result: AdaptationReturns,
    count: int,
    folder: Path,
) -> list[tuple[int, Path]]:
    """Film `count` tasks, spread evenly over the test tasks, before and after adaptation.

    Returns:
        Index of the task and path of each video; where one cannot be made, those before it, with a warning.
    """
    made: list[tuple[int, Path]] = []
    with warns_only("no videos"):
        for m in spread(len(tasks), count):
            path = folder / f"task-{m:02d}.mp4"
            record_video(environment, policy, tasks[m], result.of_task(m), path)
            made.append((m, path))
    return made


def spread(number: int, count: int) -> list[int]:
    """`count` indices evenly spread over 0 … number - 1; all indices where there are fewer."""
    return np.linspace(0, number - 1, min(count, number)).round().astype(int).tolist()


def record_video(
    environment: Environment,
    policy: GaussianMLP,
    task: Any,
    path_of_params: Sequence[Params],
    file: Path,
    coarseness: int = 20,
) -> None:
    """Film one task before and after adaptation, side by side, from the same initial state and with the same noise.

    Args:
        path_of_params: parameters after 0, 1, … adaptation steps; the first and the last act.
        file: the MP4 to write.
        coarseness: see `metarl.figures.video.write_mp4`.

    Errors: RenderingUnavailable where this machine cannot render or encode.
    """
    env = make_single_env(environment, render_mode="rgb_array")
    env.set_wrapper_attr("captioned", True)
    try:
        set_task(env, task)
        before, after = (
            record_episode(env, acting(policy, params), seed=0, max_steps=min(environment.horizon, LONGEST_VIDEO))
            for params in (path_of_params[0], path_of_params[-1])
        )
        fps = env.metadata["render_fps"]
    finally:
        env.close()
    steps = len(path_of_params) - 1
    frames = side_by_side(
        before.frames,
        after.frames,
        before.captions("before adaptation", f"task: {task.label}"),
        after.captions(f"after {steps} step{'s' * (steps != 1)}", f"task: {task.label}"),
    )
    write_mp4(file, frames, fps, coarseness)


def acting(policy: GaussianMLP, params: Params) -> Callable[[NDArray[np.floating]], NDArray[np.floating]]:
    """The stochastic policy with the parameters of one task, as a function from observation (O,) to action (A,)."""
    rng = stream(0, Purpose.VIDEO)

    def act(observation: NDArray[np.floating]) -> NDArray[np.floating]:
        with torch.inference_mode():
            noise = torch.from_numpy(rng.standard_normal((1, 1, policy.action_size), dtype=np.float32))
            observed = torch.as_tensor(observation, dtype=torch.float32).view(1, 1, -1)
            return policy.command(params, observed, noise).view(-1).numpy()

    return act
