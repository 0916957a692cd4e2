"""Who learns what from where: the runs that take part, checked before anything is measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metarl import config, runs
from metarl.builders import fixed_tasks, initial_params, make_policy, make_vector_env
from metarl.config import shipped
from metarl.errors import UserError
from metarl.evaluation import evaluate
from metarl.experiment import Experiment
from metarl.inner.sb3 import SB3PPO
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.report.records import META, RANDOM
from metarl.runs.directory import State
from metarl.sampling.protocols import TaskVectorEnv, family_name
from metarl.types import Params

PPO_SCRATCH, PPO_META, PPO_PRETRAINED, ORACLE = "PPO from scratch", f"PPO from {META}", "PPO from pretrained", "oracle"
TASKS = 20
"""Number of test tasks, where the split has as many."""
POINTS = (0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
VISIBLE = "goal_visible"


@dataclass(frozen=True)
class Run:
    """A run that takes part."""

    folder: Path
    experiment: Experiment
    state: State


@dataclass(frozen=True)
class Setup:
    """Test tasks, and the learners that are measured on them."""

    run: Run
    pretrained: Run | None
    oracle: Run | None
    split: str
    tasks: Sequence[Any]
    as_data: Sequence[Mapping[str, Any]]
    """The tasks as plain data."""
    units: Mapping[str, str]
    env: TaskVectorEnv
    """Of all tasks, E simulations each."""
    policy: GaussianMLP
    episodes: int
    """E"""
    steps: int
    """K, of adaptation."""
    seed: int

    @property
    def steps_each(self) -> int:
        """Environment steps on a task in one rollout or adaptation step, E * T."""
        return self.episodes * self.run.experiment.env.horizon

    @property
    def family(self) -> str:
        """`PointNav-v0`."""
        return family_name(self.run.experiment.env.id)

    @property
    def title(self) -> str:
        """Family, test tasks and episodes."""
        tasks = f"{len(self.tasks)} {self.split} tasks"
        return f"{self.family}, {tasks}, {self.episodes} episodes a step"

    @property
    def about(self) -> dict[str, Any]:
        """What was compared, as plain data."""
        others = {"pretrained": self.pretrained, "oracle": self.oracle}
        return {
            "run": str(self.run.folder),
            **{name: run and str(run.folder) for name, run in others.items()},
            "environment": self.run.experiment.env.id,
            "horizon": self.run.experiment.env.horizon,
            "split": self.split,
            "episodes": self.episodes,
            "gamma": self.run.experiment.sampling.gamma,
            "seed": self.seed,
            "tasks": list(self.as_data),
            "units": dict(self.units),
            "trained_before": self._environment_steps,
        }

    @property
    def trained_before(self) -> str:
        """In words, the environment steps of each run before it met the test tasks."""
        return ", ".join(f"{name} {steps:,}" for name, steps in self._environment_steps.items())

    @property
    def _environment_steps(self) -> dict[str, int]:
        named = {META: self.run, "pretrained": self.pretrained, ORACLE: self.oracle}
        return {name: run.state.environment_steps for name, run in named.items() if run}

    @property
    def starts(self) -> dict[str, Params]:
        """What PPO starts from, with a new critic where there is none: label -> parameters."""
        first = initial_params(self.policy, self.run.experiment)
        starts = {PPO_SCRATCH: first, PPO_META: self.run.state.params}
        if self.pretrained:
            starts[PPO_PRETRAINED] = self.pretrained.state.params
        return {label: self._with_critic(params) for label, params in starts.items()}

    def _with_critic(self, params: Params) -> Params:
        """The policy's parameters, without learned step sizes, and its critic, or a new one, the same for all."""
        new = SB3PPO().start(self.policy, self.policy.acting(params), torch.Generator().manual_seed(self.seed))
        return {name: params.get(name, p) for name, p in new.items()}

    def adapt(self) -> dict[str, NDArray[np.floating]]:
        """Return after 0..K steps of adaptation, as `metarl evaluate` measures it: label -> (tasks, K+1)."""
        experiment = self.run.experiment
        starts = {META: self.run.state.params, RANDOM: initial_params(self.policy, experiment)}
        return {
            label: evaluate(
                self.env, self.policy, params, experiment, self.tasks, steps=self.steps, seed=self.seed
            ).means
            for label, params in starts.items()
        }

    def reward_scale(self, adapted: Mapping[str, NDArray[np.floating]]) -> float:
        """A scale of rewards for PPO, from what `adapt` found."""
        experiment = self.run.experiment
        return reward_scale([*adapted.values()], experiment.env.horizon, experiment.sampling.gamma)

    def ask_oracle(self) -> NDArray[np.floating] | None:
        """Return of the oracle, (tasks,); None without one."""
        if not self.oracle:
            return None
        experiment = self.oracle.experiment
        env = make_vector_env(experiment.env, self.env.num_envs, experiment.threads)
        policy, params = make_policy(experiment, env), self.oracle.state.params
        played = evaluate(env, policy, params, experiment, self.tasks, steps=0, seed=self.seed)
        return played.means[:, 0]


def prepare(
    folder: Path,
    *,
    pretrained: Path | None = None,
    oracle: Path | None = None,
    split: str | None = None,
    tasks: int | None = None,
    episodes: int | None = None,
    steps: int = 3,
    seed: int = 0,
) -> Setup:
    """Read the runs and see that they can be compared.

    Args:
        folder: the run that adapts.
        pretrained: one of the same settings that was trained on all tasks without adaptation.
        oracle: one that also sees the goal.
        split, tasks, episodes: of the test; by default the run's split, 20 tasks (or all, where fewer exist), and the
            run's own episodes E.
        steps: K, adaptation steps.
        seed: of initial states, exploration and minibatches.

    Errors: UserError where a run is missing, or is not what it should be.
    """
    run = _read(folder)
    _check_adapts(run)
    experiment = run.experiment
    split, episodes = split or experiment.evaluation.reported, episodes or experiment.evaluation.episodes
    space = make_vector_env(experiment.env, 1, 1).task_space.restrict(split)
    count = tasks or min(TASKS, len(set(space.grid(TASKS))))
    env = make_vector_env(experiment.env, count * episodes, experiment.threads)
    fixed, policy = fixed_tasks(env, split, count), make_policy(experiment, env)
    runs.check_shapes(folder / runs.CHECKPOINT, run.state.params, initial_params(policy, experiment))
    return Setup(
        run=run,
        pretrained=_pretrained(pretrained, run, policy) if pretrained else None,
        oracle=_oracle(oracle, run) if oracle else None,
        split=split,
        tasks=fixed,
        as_data=[dict(space.to_dict(task)) for task in fixed],
        units=dict(space.units),
        env=env,
        policy=policy,
        episodes=episodes,
        steps=steps,
        seed=seed,
    )


def points(rollouts: int) -> tuple[int, ...]:
    """Rollouts after which PPO is tested: 0, 1, 2, 3, 5, 10, … and the last one."""
    return (*(point for point in POINTS if point < rollouts), rollouts)


def reward_scale(returns: Sequence[NDArray[np.floating]], horizon: int, gamma: float) -> float:
    """A scale of rewards that brings discounted returns to about 1, to one digit; 1.0 where all returns are 0.

    Of rewards that are as large as the largest mean |return| / T, all of one sign.

    Args:
        returns: arrays of undiscounted returns of episodes of T steps.
        horizon: T.
        gamma: discount per step.
    """
    reward = max(float(np.nanmean(np.abs(x))) for x in returns) / horizon
    discounted = reward * (horizon if gamma == 1 else (1 - gamma**horizon) / (1 - gamma))
    return float(f"{1 / discounted:.0e}") if discounted > 0 else 1.0


def _read(folder: Path) -> Run:
    experiment = runs.read_experiment(folder)
    return Run(folder, experiment, runs.load(folder, experiment))


def _check_adapts(run: Run) -> None:
    """Refuse one of the runs that the others are compared with in the place of the one that adapts."""
    if run.experiment.env.options.get(VISIBLE):
        raise UserError(
            f"{run.folder} sees its goal (env.options.{VISIBLE} = true), and so has nothing to adapt to: give it as "
            "--oracle, and as RUN_DIR a run that adapts"
        )
    if run.experiment.algorithm.inner.steps == 0:
        raise UserError(
            f"{run.folder} was trained without adaptation (algorithm.inner.steps = 0): give it as --pretrained, and as "
            "RUN_DIR a run that adapts"
        )


def _pretrained(folder: Path, run: Run, policy: GaussianMLP) -> Run:
    found = _read(folder)
    _check_joint("--pretrained", found)
    _check_same("--pretrained", found, run, ("env.", "policy.", "sampling.split"))
    runs.check_shapes(folder / runs.CHECKPOINT, found.state.params, initial_params(policy, found.experiment))
    return found


def _oracle(folder: Path, run: Run) -> Run:
    found = _read(folder)
    if not found.experiment.env.options.get(VISIBLE):
        raise UserError(
            f"--oracle {folder} does not see its goal: env.options.{VISIBLE} is "
            f"{found.experiment.env.options.get(VISIBLE, False)!r}. {advice(run.experiment, 'oracle')}"
        )
    _check_joint("--oracle", found)
    _check_same("--oracle", found, run, ("env.", "sampling.split"), ("env.options", f"env.options.{VISIBLE}"))
    env = make_vector_env(found.experiment.env, 1, 1)
    expected = initial_params(make_policy(found.experiment, env), found.experiment)
    runs.check_shapes(folder / runs.CHECKPOINT, found.state.params, expected)
    return found


def _check_joint(flag: str, run: Run) -> None:
    """Refuse a run that was trained to adapt."""
    if steps := run.experiment.algorithm.inner.steps:
        raise UserError(
            f"{flag} {run.folder} was trained to adapt: algorithm.inner.steps = {steps}, expected 0. "
            f"{advice(run.experiment, flag.removeprefix('--'))}"
        )


def _check_same(flag: str, other: Run, run: Run, settings: tuple[str, ...], apart_from: Sequence[str] = ()) -> None:
    """Refuse a run that differs in one of the settings."""
    differences = config.difference(run.experiment, other.experiment)
    lines = [
        f"{key} is {theirs!r}, in {run.folder} {own!r}"
        for key, (own, theirs) in differences.items()
        if key.startswith(settings) and key not in apart_from
    ]
    if lines:
        raise UserError("\n  ".join([f"{flag} {other.folder} cannot be compared with {run.folder}:", *lines]))


def advice(experiment: Experiment, name: str) -> str:
    """Which config trains what to compare with, `pretrained` or `oracle`."""
    family = family_name(experiment.env.id).rsplit("-v", 1)[0]
    folder = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[0-9]d)(?=[A-Z])", "_", family).lower()
    own = f"{folder}/{name}"
    if own in shipped.names():
        return f"metarl train {own} trains one; env and policy have to be those of the run"
    return f"the config point_nav/{name} is an example; env and policy have to be those of the run"
