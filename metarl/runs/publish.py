"""What a run publishes: summary numbers and the checkpoint after each test, videos before and after adaptation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metarl import runs
from metarl.builders import make_single_env
from metarl.errors import warns_only
from metarl.evaluation import AdaptationReturns
from metarl.experiment import Environment, Experiment
from metarl.figures import adaptation
from metarl.figures.style import Target
from metarl.figures.video import record_episode, side_by_side, write_mp4
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.runs.directory import State
from metarl.runs.tracking import TRAINING_S, Tracker, read_metrics
from metarl.sampling.protocols import family_name, set_task
from metarl.seeding import Purpose, stream
from metarl.statistics import Curve, Estimate
from metarl.types import Params

VIDEOS, LEARNING = "videos", "learning.png"
LONGEST_VIDEO = 300
"""Steps that a video shows at most: frames are kept in memory, 0.7 MB each."""


@dataclass(frozen=True)
class Learning:
    """How returns grew in training so far: I iterations, and the fixed test J times in between."""

    steps: NDArray[np.integer]
    """(I,) environment steps before each iteration, all tasks together."""
    before: NDArray[np.floating]
    """(I,) mean return on training tasks before adaptation; NaN where it was not finite."""
    after: NDArray[np.floating]
    """(I,) and after it."""
    tested_at: NDArray[np.integer]
    """(J,) environment steps before each test."""
    tested: Curve
    """(J,) return on the test tasks after the last adaptation step, with its interval."""
    clock: NDArray[np.floating]
    """(2, C) ascending environment steps, and the seconds of training at them; C = 0 where the run does not say."""


def publish_test(
    experiment: Experiment,
    run_dir: Path,
    state: State,
    policy: GaussianMLP,
    tasks: Sequence[Any],
    result: AdaptationReturns,
    tracker: Tracker,
) -> None:
    """What a test leaves: the run's summary, the checkpoint as an artifact and, if it is the best so far, as best.pt.

    Videos of a few test tasks come at the end or always, the learning curve at the end.
    """
    at = {"iteration": state.iteration, "environment_steps": state.environment_steps}
    before, after = (float(np.nanmean(result.means[:, k])) for k in (0, -1))
    best = runs.keep_best(run_dir, experiment, state, after)
    tested = {"return_before_adaptation": before, "return_after_adaptation": after, "gain": after - before}
    # W&B's own maximum would begin anew in each part of a run that is resumed.
    tracker.summary({**tested, "best_return_after_adaptation": best})
    aliases = ["latest", "best"] if after == best else ["latest"]
    tracker.artifact(run_dir / runs.CHECKPOINT, f"checkpoint-{runs.read_id(run_dir)}", "model", aliases, at | tested)
    ended = state.iteration == experiment.iterations
    if ended:
        with warns_only(f"no picture {run_dir / LEARNING}"):
            if learned := learning(experiment, run_dir):
                draw_learning(run_dir / LEARNING, experiment, learned, title_of(experiment))
                tracker.image("figures/learning", run_dir / LEARNING, "return on training tasks and in the test", **at)
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
    """Videos of test tasks in a table beside what the test found on them, and each by itself."""
    rows = []
    for m, path in made:
        before, after = result.means[m, [0, -1]].tolist()
        rows.append([tasks[m].label, before, after, after - before, path])
        tracker.video(f"rollouts/{path.stem}", path, f"before and after adaptation: {tasks[m].label}", **at)
    if rows:
        tracker.table("rollouts/tasks", ["task", "return before", "return after", "gain", "video"], rows, **at)


def learning(experiment: Experiment, run_dir: Path) -> Learning | None:
    """What the run's metrics.jsonl says so far; None before there is training and a test to draw."""
    rows = read_metrics(run_dir / runs.METRICS)

    def columns(*names: str) -> list[NDArray[np.floating]]:
        """The numbers of all rows that have every one of them, a column each."""
        chosen = [[row.get(name) for name in names] for row in rows if row.get(names[0]) is not None]
        whole = [values for values in chosen if all(isinstance(value, int | float) for value in values)]
        return list(np.array(whole, dtype=float).reshape(-1, len(names)).T)

    after, before, steps = columns("train/return_after", "train/return_before", "environment_steps")
    name = f"{section_of(experiment)}/return_{experiment.evaluation.steps}_steps"
    low, mean, high, at = columns(f"{name}_low", name, f"{name}_high", "environment_steps")
    if not len(after) or not len(mean):
        return None
    tested = [Estimate(*row) for row in zip(mean, low, high, strict=True)]
    clocks = [columns(of, "environment_steps", TRAINING_S)[1:] for of in ("train/return_after", name)]
    clock = np.unique(np.hstack(clocks), axis=1)
    return Learning(steps.astype(int), before, after, at.astype(int), tested, clock)


def draw_learning(target: Target, experiment: Experiment, learned: Learning, title: str) -> None:
    """The learning curve of the run."""
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
    """Family and algorithm, as the title of a figure."""
    return f"{family_name(experiment.env.id)}, {experiment.algorithm.name}"


def section_of(experiment: Experiment) -> str:
    """The W&B section of the repeated test: its split."""
    return experiment.evaluation.split.replace("-", "_")


def make_videos(
    environment: Environment,
    policy: GaussianMLP,
    tasks: Sequence[Any],
    result: AdaptationReturns,
    count: int,
    folder: Path,
) -> list[tuple[int, Path]]:
    """One video, before and after adaptation side by side, for each of `count` tasks spread over the test tasks.

    Returns:
        Index of the task and path of each video; fewer, with one warning, where one cannot be made.
    """
    made: list[tuple[int, Path]] = []
    with warns_only("no videos"):
        for m in spread(len(tasks), count):
            path = folder / f"task-{m:02d}.mp4"
            record_video(environment, policy, tasks[m], result.of_task(m), path)
            made.append((m, path))
    return made


def spread(number: int, count: int) -> list[int]:
    """`count` indices, evenly spread from the first to the last; all of them if there are fewer."""
    return np.linspace(0, number - 1, min(count, number)).round().astype(int).tolist()


def record_video(
    environment: Environment,
    policy: GaussianMLP,
    task: Any,
    path_of_params: Sequence[Params],
    file: Path,
    coarseness: int = 20,
) -> None:
    """One task with the parameters before and after adaptation side by side, from the same start with the same noise.

    `coarseness` is that of `metarl.figures.video.write_mp4`.
    """
    env = make_single_env(environment, render_mode="rgb_array")
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
    """The stochastic policy of one task as a function from an observation (O,) to an action (A,)."""
    rng = stream(0, Purpose.VIDEO)

    def act(observation: NDArray[np.floating]) -> NDArray[np.floating]:
        with torch.inference_mode():
            noise = torch.from_numpy(rng.standard_normal((1, 1, policy.action_size), dtype=np.float32))
            observed = torch.as_tensor(observation, dtype=torch.float32).view(1, 1, -1)
            return policy.command(params, observed, noise).view(-1).numpy()

    return act
