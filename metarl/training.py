"""The outer loop, in the order of the pseudocode in the papers.

All ranks go through it together, each with its share of the tasks (see `metarl.system.ranks`); rank 0 alone writes and
prints.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from metarl import runs
from metarl.algorithms import memory
from metarl.errors import RunFailed, UserError
from metarl.experiment import Experiment
from metarl.experiment.builders import (
    check_can_be_filmed,
    fixed_tasks,
    initial_params,
    make_policy,
    make_vector_env,
    training_tasks,
)
from metarl.experiment.collection import Collected, collect
from metarl.experiment.evaluation import evaluate, gathered
from metarl.parameters import require_finite
from metarl.policy_gradient import normalizer
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.runs.directory import State
from metarl.runs.publish import publish_test, section_of
from metarl.runs.tracking import Tracker
from metarl.sampling.memory import parameter_bytes, require_memory
from metarl.sampling.protocols import TaskVectorEnv
from metarl.statistics import estimate, paired_gain
from metarl.system import ranks
from metarl.system.machine import available_memory
from metarl.system.threads import set_threads
from metarl.types import Params


class Progress(Protocol):
    """Shows the user how far a run is."""

    def show(self, iteration: int, metrics: dict[str, float]) -> None:
        """Show the number of iterations done, and the metrics of the last one."""
        ...

    def note(self, text: str) -> None:
        """Print a line of text."""
        ...


@dataclass(frozen=True)
class Setup:
    """Everything that `train` needs, built and checked before anything is written."""

    experiment: Experiment
    """All settings."""
    env: TaskVectorEnv
    """Simulations for training, E for each of this rank's share of the M tasks."""
    policy: GaussianMLP
    """How parameters act."""
    test: FixedTest
    """The test that is repeated during training."""
    first_params: Params
    """theta before training, with the inner loop's own parameters."""


def prepare(experiment: Experiment, *, resumes: bool = False) -> Setup:
    """Build everything that training needs, and check that the settings fit together.

    Args:
        resumes: training continues from a checkpoint, so the model of `experiment.start_from` is not read again.

    Errors: UserError, or an error of Gymnasium, if settings do not fit the environment, or if the model to start from
    does not fit the policy.
    """
    set_threads(experiment.threads)
    M, E = experiment.sampling.tasks, experiment.sampling.episodes
    for name, tasks in (("sampling.tasks", M), ("evaluation.tasks", experiment.evaluation.tasks)):
        if tasks < ranks.count():
            raise UserError(
                f"{name} = {tasks} with {ranks.count()} ranks: every rank needs a task. Start fewer ranks, or choose "
                "more tasks"
            )
    own = ranks.share(M)
    env = make_vector_env(experiment.env, (own.stop - own.start) * E, experiment.threads)
    if experiment.evaluation.videos:
        check_can_be_filmed(experiment.env.id)
    training_tasks(env, experiment, iteration=0)  # raises an error now if the split has no tasks to draw
    policy = make_policy(experiment, env)
    require_memory(
        (M + 2) * parameter_bytes(policy.layer_sizes),
        f"the parameters of sampling.tasks = {M:,} policies of policy.hidden_sizes = {list(policy.hidden_sizes)}",
        "choose fewer tasks or smaller layers",
    )
    warn_of_memory(experiment, policy)
    first_params = initial_params(policy, experiment)
    if experiment.start_from and not resumes:
        from metarl import sb3  # its import takes seconds

        actor = sb3.read(experiment.start_from, policy, experiment.start_from_statistics)
        first_params = normalizer.without(first_params) | actor
    for episodes in (E, experiment.evaluation.episodes):
        experiment.algorithm.inner.check(episodes, experiment.env.horizon)
    return Setup(experiment, env, policy, FixedTest(experiment, policy), first_params)


def warn_of_memory(experiment: Experiment, policy: GaussianMLP) -> None:
    """Warn if an iteration is expected to need more memory than is available."""
    sampling, available = experiment.sampling, available_memory()
    needed = memory.iteration_bytes(
        experiment.algorithm, policy, sampling.tasks, sampling.episodes, experiment.env.horizon
    )
    if available is not None and needed > available:
        warnings.warn(
            f"an iteration of {sampling.tasks} tasks, {sampling.episodes} episodes and {experiment.env.horizon} steps "
            f"needs about {needed / 2**30:.3g} GiB of memory, and {available / 2**30:.3g} GiB are available. Choose "
            "smaller sampling.tasks, sampling.episodes or env.horizon",
            stacklevel=3,
        )


def train(
    setup: Setup,
    run_dir: Path,
    state: State | None,
    tracker: Tracker,
    progress: Progress,
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> State:
    """Meta-train from `state` (None: from the start) to `experiment.iterations`.

    A checkpoint is written after every iteration, so a run that is interrupted loses at most one iteration.

    Args:
        asked_to_stop: whether to end after the current iteration; asked on each rank, and one is enough.

    Returns:
        The state at the end.

    Raises:
        RunFailed: simulations diverged, or a number became infinite or NaN. The last checkpoint is kept.
    """
    experiment, env, policy, test = setup.experiment, setup.env, setup.policy, setup.test
    state = state or State(0, 0, setup.first_params, algorithm_state={}, test_tasks=test.as_data)
    if ranks.is_first():
        runs.save(run_dir, experiment, state)

    for iteration in range(state.iteration, experiment.iterations):
        with failures_named(iteration):
            if iteration % experiment.evaluation.every == 0:
                test.run(state, run_dir, tracker, progress)

            began = time.perf_counter()
            env.set_tasks(training_tasks(env, experiment, iteration)[ranks.share(experiment.sampling.tasks)])
            collected = collect(env, policy, state.params, experiment, iteration)
            params, algorithm_state, metrics = experiment.algorithm.update(
                policy, state.params, state.algorithm_state, collected.experience
            )
            require_finite(params, "the outer step")
            params = normalizer.updated(params, collected.observed)

        metrics = iteration_metrics(collected, metrics, time.perf_counter() - began)
        if ranks.is_first():
            tracker.log(metrics, iteration=iteration, environment_steps=state.environment_steps)
        state = replace(
            state,
            iteration=iteration + 1,
            environment_steps=state.environment_steps + collected.environment_steps,
            params=params,
            algorithm_state=algorithm_state,
        )
        if ranks.is_first():
            runs.save(run_dir, experiment, state)
            progress.show(state.iteration, metrics)
        if state.iteration < experiment.iterations and any(ranks.from_all(asked_to_stop())):
            return state

    with failures_named(state.iteration):
        test.run(state, run_dir, tracker, progress)
    return state


@contextmanager
def failures_named(iteration: int) -> Generator[None]:
    """Add to the message of a RunFailed the iteration, and the checkpoint that is left."""
    try:
        yield
    except ranks.RankLost:
        raise
    except RunFailed as error:
        raise type(error)(
            f"iteration {iteration}: {error}. The checkpoint of {iteration} iterations is kept. "
            "Smaller steps may help: the step sizes of the algorithm, of its inner loop, or policy.action_scale."
        ) from error


def iteration_metrics(collected: Collected, update: dict[str, float], seconds: float) -> dict[str, float]:
    """The metrics of one iteration, named by their section in W&B.

    Args:
        collected: the episodes of the iteration.
        update: the metrics of the algorithm's outer step; names that end in _s are durations [s].
        seconds: duration of the whole iteration.
    """
    parts = {**collected.seconds, **update}
    return {
        "train/return_before": collected.returns[0],
        "train/return_after": collected.returns[-1],
        **{f"{'time' if name.endswith('_s') else 'update'}/{name}": value for name, value in parts.items()},
        "time/iteration_s": seconds,
        "time/environment_steps_per_s": collected.environment_steps / seconds,
    }


class FixedTest:
    """The evaluation that is repeated during training, always on the same tasks and with the same random streams."""

    def __init__(self, experiment: Experiment, policy: GaussianMLP) -> None:
        settings = experiment.evaluation
        self._experiment, self._policy = experiment, policy
        self._own = ranks.share(settings.tasks)
        simulations = (self._own.stop - self._own.start) * settings.episodes
        self._env = make_vector_env(experiment.env, simulations, experiment.threads)
        self._tasks = fixed_tasks(self._env, settings.split, settings.tasks)

    @property
    def as_data(self) -> list[Mapping[str, Any]]:
        """The test tasks as plain data."""
        return [self._env.task_space.to_dict(task) for task in self._tasks]

    def run(self, state: State, run_dir: Path, tracker: Tracker, progress: Progress) -> None:
        """Adapt the parameters of `state` to every test task, and log and publish the returns."""
        experiment, tasks = self._experiment, self._tasks
        own, total = self._own, len(tasks)
        found = evaluate(
            self._env, self._policy, state.params, experiment, tasks[own], first_task=own.start, of_tasks=total
        )
        result = gathered(found, total)
        if not ranks.is_first():
            return

        section = section_of(experiment)
        at = {"iteration": state.iteration, "environment_steps": state.environment_steps}
        tracker.log(_test_metrics(section, result.means), **at)
        columns = ["task", *(f"{k} steps" for k in range(result.means.shape[1]))]
        rows = [[task.label, *returns] for task, returns in zip(tasks, result.means.tolist(), strict=True)]
        tracker.table(f"{section}/returns", columns, rows, **at)

        path = " → ".join(f"{mean:.1f}" for mean in np.nanmean(result.means, axis=0))
        gain = paired_gain(result.means[:, 0], result.means[:, -1])
        progress.note(f"{experiment.evaluation.split} tasks at iteration {state.iteration}: return {path}, gain {gain}")
        publish_test(experiment, run_dir, state, self._policy, tasks, result, tracker)


def _test_metrics(section: str, means: NDArray[np.floating]) -> dict[str, float]:
    """The mean over tasks of the returns after 0..K steps, (tasks, K+1), and of the gain, with the spread over them."""
    K = means.shape[1] - 1
    after, gain = estimate(means[:, K]), paired_gain(means[:, 0], means[:, K])
    metrics = {f"return_{k}_steps": float(np.nanmean(means[:, k])) for k in range(K + 1)}
    metrics["gain"] = gain.value
    if len(means) > 1:
        metrics |= {f"return_{K}_steps_spread_over_tasks": after.spread, "gain_spread_over_tasks": gain.spread}
    return {f"{section}/{name}": value for name, value in metrics.items()}
