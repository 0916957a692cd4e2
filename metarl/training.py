"""The outer loop, in the order of the papers' pseudocode."""

from __future__ import annotations

import time
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from metarl import runs
from metarl.algorithms import memory
from metarl.builders import (
    check_can_be_filmed,
    fixed_tasks,
    initial_params,
    make_policy,
    make_vector_env,
    read_actor,
    training_tasks,
)
from metarl.collection import Collected, collect
from metarl.errors import RunFailed
from metarl.evaluation import AdaptationReturns, evaluate
from metarl.experiment import Experiment
from metarl.machine import available_memory
from metarl.parameters import require_finite
from metarl.policy_gradient import normalizer
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.runs.directory import State
from metarl.runs.publish import publish_test, section_of
from metarl.runs.tracking import Tracker
from metarl.sampling.memory import parameter_bytes, require_memory
from metarl.sampling.protocols import TaskVectorEnv
from metarl.statistics import estimate as interval
from metarl.threads import set_threads
from metarl.types import Params


class Progress(Protocol):
    """Shows the progress of a run."""

    def show(self, iteration: int, metrics: dict[str, float]) -> None:
        """An iteration is done."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...


@dataclass(frozen=True)
class Setup:
    """What training needs, built and checked before anything is written."""

    experiment: Experiment
    env: TaskVectorEnv
    policy: GaussianMLP
    test: FixedTest
    first_params: Params
    """theta before any training."""


def prepare(experiment: Experiment, *, resumes: bool = False) -> Setup:
    """Build everything that the settings name.

    Args:
        resumes: training goes on from a checkpoint, so that what it began with is not read again.

    Errors: UserError, or an error of Gymnasium, for settings that do not fit the environment, and for a model to start
    from that does not fit the policy.
    """
    set_threads(experiment.threads)
    env = make_vector_env(experiment.env, experiment.sampling.tasks * experiment.sampling.episodes, experiment.threads)
    if experiment.evaluation.videos:
        check_can_be_filmed(experiment.env.id)
    training_tasks(env, experiment, 0)
    policy = make_policy(experiment, env)
    M = experiment.sampling.tasks
    require_memory(
        (M + 2) * parameter_bytes(policy.layer_sizes),
        f"the parameters of sampling.tasks = {M:,} policies of policy.hidden_sizes = {list(policy.hidden_sizes)}",
        "choose fewer tasks or smaller layers",
    )
    warn_of_memory(experiment, policy)
    first_params = initial_params(policy, experiment)
    if experiment.start_from and not resumes:
        actor = read_actor(experiment.start_from, experiment.start_from_statistics, policy)
        first_params = normalizer.without(first_params) | actor
    for episodes in (experiment.sampling.episodes, experiment.evaluation.episodes):
        experiment.algorithm.inner.check(episodes, experiment.env.horizon)
    return Setup(experiment, env, policy, FixedTest(experiment, policy), first_params)


def warn_of_memory(experiment: Experiment, policy: GaussianMLP) -> None:
    """Warn of a run that needs more memory than there is."""
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


def train(setup: Setup, run_dir: Path, state: State | None, tracker: Tracker, progress: Progress) -> State:
    """Meta-train from `state` (None: from the start) to `experiment.iterations`.

    After every iteration the checkpoint is on disk, so that whatever ends the run, no more than one is lost.

    Returns:
        The state at the end.

    Raises:
        RunFailed: training cannot go on; the last checkpoint stays.
    """
    experiment, env, policy, test = setup.experiment, setup.env, setup.policy, setup.test
    state = state or State(0, 0, setup.first_params, algorithm_state={}, test_tasks=test.as_data)
    runs.save(run_dir, experiment, state)

    for iteration in range(state.iteration, experiment.iterations):
        with failures_named(iteration):
            if iteration % experiment.evaluation.every == 0:
                result = test.run(state, tracker, progress)
                publish_test(experiment, run_dir, state, policy, test.tasks, result, tracker)

            began = time.perf_counter()
            env.set_tasks(training_tasks(env, experiment, iteration))
            collected = collect(env, policy, state.params, experiment, iteration)
            params, algorithm_state, metrics = experiment.algorithm.update(
                policy, state.params, state.algorithm_state, collected.experience
            )
            require_finite(params, "the outer step")
            params = normalizer.updated(params, collected.observed)

        metrics = describe(collected, metrics, time.perf_counter() - began)
        tracker.log(metrics, iteration=iteration, environment_steps=state.environment_steps)
        state = replace(
            state,
            iteration=iteration + 1,
            environment_steps=state.environment_steps + collected.environment_steps,
            params=params,
            algorithm_state=algorithm_state,
        )
        runs.save(run_dir, experiment, state)
        progress.show(state.iteration, metrics)

    with failures_named(state.iteration):
        result = test.run(state, tracker, progress)
        publish_test(experiment, run_dir, state, policy, test.tasks, result, tracker)
    return state


@contextmanager
def failures_named(iteration: int) -> Generator[None]:
    """Say of a failed run where it failed and what is left of it."""
    try:
        yield
    except RunFailed as error:
        raise type(error)(
            f"iteration {iteration}: {error}. The checkpoint of {iteration} iterations is kept. "
            "Smaller steps may help: the step sizes of the algorithm, of its inner loop, or policy.action_scale."
        ) from error


def describe(collected: Collected, update: dict[str, float], seconds: float) -> dict[str, float]:
    """The metrics of one iteration, by W&B's sections; names that end in _s are times [s]. seconds: its duration."""
    parts = {**collected.seconds, **update}
    return {
        "train/return_before": collected.returns[0],
        "train/return_after": collected.returns[-1],
        **{f"{'time' if name.endswith('_s') else 'update'}/{name}": value for name, value in parts.items()},
        "time/iteration_s": seconds,
        "time/environment_steps_per_s": collected.environment_steps / seconds,
    }


class FixedTest:
    """The evaluation that is repeated during training: fixed tasks, fixed randomness."""

    def __init__(self, experiment: Experiment, policy: GaussianMLP) -> None:
        settings = experiment.evaluation
        self._experiment, self._policy = experiment, policy
        self._env = make_vector_env(experiment.env, settings.tasks * settings.episodes, experiment.threads)
        self.tasks: Sequence[Any] = fixed_tasks(self._env, settings.split, settings.tasks)

    @property
    def as_data(self) -> list[Mapping[str, Any]]:
        """The test tasks as plain data."""
        return [self._env.task_space.to_dict(task) for task in self.tasks]

    def run(self, state: State, tracker: Tracker, progress: Progress) -> AdaptationReturns:
        """Adapt to all test tasks, record returns and gain, and return them."""
        experiment = self._experiment
        at = {"iteration": state.iteration, "environment_steps": state.environment_steps}
        result = evaluate(self._env, self._policy, state.params, experiment, self.tasks)
        section, means = section_of(experiment), result.means
        gain, last = interval(means[:, -1] - means[:, 0]), f"{section}/return_{means.shape[1] - 1}_steps"
        after = interval(means[:, -1])
        metrics = {f"{section}/return_{k}_steps": float(np.nanmean(means[:, k])) for k in range(means.shape[1])}
        metrics |= {f"{last}_low": after.low, f"{last}_high": after.high}
        metrics |= {f"{section}/gain": gain.value, f"{section}/gain_low": gain.low, f"{section}/gain_high": gain.high}
        tracker.log(metrics, **at)
        columns = ["task", *(f"{k} steps" for k in range(means.shape[1]))]
        rows = [[task.label, *row] for task, row in zip(self.tasks, means.tolist(), strict=True)]
        tracker.table(f"{section}/returns", columns, rows, **at)
        path = " → ".join(f"{mean:.1f}" for mean in np.nanmean(means, axis=0))
        progress.note(f"{experiment.evaluation.split} tasks at iteration {state.iteration}: return {path}, gain {gain}")
        return result
