"""Film a trained policy before and after adaptation, side by side, or show it in MuJoCo's viewer.

    metarl render RUN_DIR --task velocity=1.7 [--steps 2] [--checkpoint best] [--out FILE.mp4] [--wandb]
    metarl render RUN_DIR --task velocity=1.7 --viewer
    metarl render RUN_DIR                                 # a few of the run's test tasks

Videos are written to RUN_DIR/videos, unless --out names a file.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import tyro
from pydantic import Field

from metarl import config, runs
from metarl.config.settings import settings
from metarl.errors import UserError, exits_cleanly
from metarl.experiment import Experiment
from metarl.experiment.builders import check_can_be_filmed, fixed_tasks, make_single_env, make_vector_env
from metarl.figures.video import RenderingUnavailable
from metarl.meta_policy import MetaPolicy, load
from metarl.results.records import Checkpoint
from metarl.runs.publish import VIDEOS, record_video, spread
from metarl.runs.wandb_run import requested_mode
from metarl.sampling.protocols import TaskSpace, TaskVectorEnv
from metarl.seeding import SEEDS

FEW = 3
"""Number of test tasks that are filmed where --task names none."""

LONGEST_NAME = 60
"""Characters in the name of a file."""


@settings
class Options:
    """The command line."""

    run_dir: Annotated[tyro.conf.Positional[Path], {"metavar": "RUN_DIR"}]
    """A run directory that metarl train wrote, or the name of a shipped policy, which is copied to runs/shipped."""
    checkpoint: Checkpoint = "latest"
    """latest, or best: the one with the highest return after adaptation in the test repeated during training"""
    task: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], {"metavar": "FIELD=VALUE"}] = ()
    """The task, such as velocity=1.7 or goal=0.3,-0.2; repeated for each field (default: three test tasks)."""
    steps: int | None = Field(None, ge=0, le=1_000)
    """Adaptation steps (default: those of the test during training)."""
    episodes: int | None = Field(None, ge=1)
    """Episodes per adaptation step (default: the run's setting, usually 20)."""
    seed: int = Field(0, ge=0, lt=SEEDS)
    """Seed of the adaptation"""
    out: Path | None = None
    """An mp4 file (default: RUN_DIR/videos/TASK.mp4)."""
    viewer: bool = False
    """Show the adapted policy in a window instead of filming it"""
    wandb: bool = False
    """Add the videos to the run in Weights & Biases"""


@exits_cleanly
def main(args: Sequence[str] | None = None) -> None:
    """Adapt the policy, then film it or show it."""
    arguments = config.options(Options, args, command="render", description=__doc__)
    check(arguments)
    arguments = replace(arguments, run_dir=runs.writable(arguments.run_dir))
    policy = load(arguments.run_dir, arguments.checkpoint)
    experiment = policy.experiment
    if arguments.wandb and requested_mode(experiment.tracking.mode) == "disabled":
        raise UserError("--wandb: tracking is disabled, by WANDB_MODE or by tracking.mode in the run's config.yaml")
    env = make_vector_env(experiment.env, arguments.episodes or experiment.evaluation.episodes, experiment.threads)
    check_can_be_filmed(experiment.env.id)
    tasks = chosen(arguments, experiment, env)
    steps = experiment.evaluation.steps if arguments.steps is None else arguments.steps
    if arguments.viewer:
        watch(adapted(policy, env, tasks[0], steps, arguments.seed)[-1], tasks[0])
        return
    videos = []
    for task in tasks:
        file = arguments.out or arguments.run_dir / VIDEOS / f"{named(env.task_space, task)}.mp4"
        film(adapted(policy, env, task, steps, arguments.seed), task, file)
        print(f"video     {file}")
        videos.append((file, task.label))
    if arguments.wandb:
        publish(arguments.run_dir, experiment, videos)


def check(arguments: Options) -> None:
    """Raise UserError for options that do not go together."""
    if arguments.wandb and arguments.viewer:
        raise UserError("--wandb adds videos, and --viewer makes none")
    if arguments.out and arguments.viewer:
        raise UserError("--out names a video, and --viewer makes none")
    if arguments.out and arguments.out.suffix != ".mp4":
        raise UserError(f"--out {arguments.out}: the video is an mp4, name it {arguments.out.with_suffix('.mp4')}")


def chosen(arguments: Options, experiment: Experiment, env: TaskVectorEnv) -> Sequence[Any]:
    """The task that --task describes; without it, test tasks of the run, evenly spread."""
    if arguments.task:
        return [env.task_space.parse(arguments.task)]
    if arguments.out:
        raise UserError(f"--out {arguments.out} is one file, for one task: choose it with --task")
    tasks = fixed_tasks(env, experiment.evaluation.split, experiment.evaluation.tasks)
    return [tasks[m] for m in spread(len(tasks), FEW)]


def adapted(policy: MetaPolicy, env: TaskVectorEnv, task: Any, steps: int, seed: int) -> list[MetaPolicy]:
    """The policy after 0, 1, …, `steps` adaptation steps on the task."""
    env.set_tasks([task])
    path = [policy]
    for _ in range(steps):
        path.append(path[-1].adapt(env, steps=1, episodes=env.num_envs, seed=seed))
    return path


def film(path: Sequence[MetaPolicy], task: Any, file: Path) -> None:
    """Write a video of the first and the last policy. Errors: UserError where this machine cannot render or encode."""
    try:
        record_video(path[0].experiment.env, path[0].policy, task, [policy.params for policy in path], file)
    except RenderingUnavailable as error:
        raise UserError(f"no video: {error}") from error


def named(space: TaskSpace, task: Any) -> str:
    """A file name for a task: `velocity-1.7`, `goal-0.3_-0.2`; where that is too long, one made of the task's label."""
    values = {name: np.atleast_1d(value) for name, value in space.to_dict(task).items()}
    name = "_".join(f"{name}-{'_'.join(f'{number:.4g}' for number in value)}" for name, value in values.items())
    return name if len(name) <= LONGEST_NAME else re.sub(r"[^\w.]+", "-", task.label)


def watch(policy: MetaPolicy, task: Any) -> None:
    """Show episodes in real time until the window is closed. Errors: UserError for a robot that it cannot show."""
    environment = policy.experiment.env
    env = make_single_env(environment)
    robot = env.unwrapped
    if not hasattr(robot, "scene"):
        raise UserError(f"env.id = {environment.id!r}: the viewer shows robots of envs.single.RobotEnv, not {robot}")
    from envs.viewer import Viewer

    robot = cast(Any, robot)
    robot.set_task(task)
    observation, _ = env.reset(seed=0)
    with Viewer(robot) as viewer:
        print(f"{task.label}: close the window to end")
        while viewer.open:
            began = time.perf_counter()
            observation, _, terminated, truncated, _ = env.step(policy.act(observation))
            viewer.show()
            time.sleep(max(0.0, 1 / robot.metadata["render_fps"] - (time.perf_counter() - began)))
            if terminated or truncated:
                observation, _ = env.reset()
    env.close()


def publish(run_dir: Path, experiment: Experiment, videos: Sequence[tuple[Path, str]]) -> None:
    """Add the videos to the run in W&B; offline, as a further part of the run."""
    with runs.locked(run_dir):
        state = runs.load(run_dir, experiment)
        at = {"iteration": state.iteration, "environment_steps": state.environment_steps}
        with runs.open_tracker(run_dir, experiment) as tracker:
            for file, label in videos:
                tracker.media(f"rollouts/{file.stem}", file, f"before and after adaptation: {label}", **at)
    if tracker.wandb_dir:
        print(f"W&B run   {tracker.wandb_dir}")
