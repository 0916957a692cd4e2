"""What a finished run shows: videos before and after adaptation, summary numbers, the checkpoint as an artifact."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from metarl import figures, runs
from metarl.evaluation import AdaptationReturns
from metarl.experiment import Environment, Experiment
from metarl.policies import GaussianMLP
from metarl.runs import State
from metarl.seeding import Purpose, stream
from metarl.tracking import Tracker, read_metrics
from metarl.types import Params
from metarl.video import RenderingUnavailable, record_episode, side_by_side, write_mp4

VIDEOS, LEARNING = "videos", "learning.png"
LONGEST_VIDEO = 300
"""Steps that are filmed at most: frames are kept in memory, 0.7 MB each."""


def publish(
    experiment: Experiment,
    run_dir: Path,
    state: State,
    policy: GaussianMLP,
    tasks: Sequence[Any],
    result: AdaptationReturns,
    tracker: Tracker,
) -> None:
    """Set the run's summary, keep its checkpoint as an artifact, draw its learning curve, film a few test tasks."""
    at = {"iteration": state.iteration, "environment_steps": state.environment_steps}
    before, after = (float(np.nanmean(result.means[:, k])) for k in (0, -1))
    tracker.summary({"return_before_adaptation": before, "return_after_adaptation": after, "gain": after - before})
    tracker.artifact(run_dir / runs.CHECKPOINT, f"checkpoint-{runs.read_id(run_dir)}", "model")
    if draw_learning(experiment, run_dir):
        tracker.image("learning", run_dir / LEARNING, "return on training tasks and in the test", **at)
    for path, label in film(experiment.env, policy, tasks, result, experiment.evaluation.videos, run_dir / VIDEOS):
        tracker.video(f"rollouts/{path.stem}", path, f"before and after adaptation: {label}", **at)


def draw_learning(experiment: Experiment, run_dir: Path) -> bool:
    """The learning curve of the run so far, from its metrics.jsonl; False where there is nothing to draw yet."""
    rows = read_metrics(run_dir / runs.METRICS)

    def columns(*names: str) -> list[NDArray[np.floating]]:
        """The numbers of all rows that have the first of them, a column each."""
        chosen = [[row[name] for name in names] for row in rows if row.get(names[0]) is not None]
        return list(np.array(chosen, dtype=float).reshape(-1, len(names)).T)

    after, before, steps = columns("train/return_after", "train/return_before", "environment_steps")
    name = f"{section_of(experiment)}/return_{experiment.evaluation.steps}_steps"
    low, mean, high, at = columns(f"{name}_low", name, f"{name}_high", "environment_steps")
    if not len(after) or not len(mean):
        return False
    title = f"{experiment.env.id.split('/')[-1]}, {experiment.algorithm.name}"
    tested = (at.astype(int), figures.Curve(mean, low, high))
    picture, split = run_dir / LEARNING, experiment.evaluation.split
    figures.learning_curve(picture, steps.astype(int), before, after, title, tested=tested, tested_on=split)
    return True


def section_of(experiment: Experiment) -> str:
    """The W&B section of the repeated test: its split."""
    return experiment.evaluation.split.replace("-", "_")


def film(
    environment: Environment,
    policy: GaussianMLP,
    tasks: Sequence[Any],
    result: AdaptationReturns,
    count: int,
    folder: Path,
) -> list[tuple[Path, str]]:
    """One video, before and after adaptation side by side, for each of `count` tasks spread over the test tasks.

    Returns:
        Path and task label of each video; fewer, with one warning, where this machine cannot render.
    """
    made: list[tuple[Path, str]] = []
    try:
        for m in np.linspace(0, len(tasks) - 1, min(count, len(tasks))).round().astype(int):
            path = folder / f"task-{m:02d}.mp4"
            film_task(environment, policy, tasks[m], result.of_task(m), path)
            made.append((path, tasks[m].label))
    except RenderingUnavailable as error:
        warnings.warn(f"no videos: {error}", stacklevel=2)
    return made


def film_task(
    environment: Environment, policy: GaussianMLP, task: Any, path_of_params: Sequence[Params], file: Path
) -> None:
    """One task filmed with the parameters before and after adaptation, from the same start with the same noise."""
    env = gymnasium.make(
        environment.id, render_mode="rgb_array", max_episode_steps=environment.horizon, **environment.options
    )
    try:
        env.get_wrapper_attr("set_task")(task)
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
        before.captions("before adaptation", task.label),
        after.captions(f"after {steps} step{'s' * (steps != 1)}", task.label),
    )
    write_mp4(file, frames, fps)


def acting(policy: GaussianMLP, params: Params) -> Callable[[NDArray[np.floating]], NDArray[np.floating]]:
    """The stochastic policy of one task as a function from an observation (O,) to an action (A,)."""
    rng = stream(0, Purpose.VIDEO)
    std = policy.log_std(params).exp().reshape(-1)

    def act(observation: NDArray[np.floating]) -> NDArray[np.floating]:
        with torch.inference_mode():
            mean = policy.mean(params, torch.as_tensor(observation, dtype=torch.float32).view(1, 1, -1)).view(-1)
            noise = torch.from_numpy(rng.standard_normal(policy.action_size, dtype=np.float32))
            return ((mean + std * noise) * policy.action_scale).clamp(-1, 1).numpy()

    return act
