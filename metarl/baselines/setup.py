"""The runs and test tasks of a comparison, read and checked before anything is measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metarl import config, runs
from metarl.baselines import rl2
from metarl.baselines.rl2 import RL2Record
from metarl.config import shipped
from metarl.errors import UserError
from metarl.experiment import Experiment
from metarl.experiment.builders import fixed_tasks, initial_params, make_policy, make_vector_env
from metarl.experiment.evaluation import evaluate
from metarl.experiment.tuning import Tuned, adapting_with, tune_adaptation, tuning_tasks
from metarl.inner.sb3 import SB3PPO
from metarl.policy_gradient.gaussian_mlp import GaussianMLP, at_latent_mean
from metarl.results.records import META, RANDOM
from metarl.runs.directory import State
from metarl.sampling.protocols import TaskVectorEnv, family_name
from metarl.statistics import plain
from metarl.types import Params

PRETRAINED, ORACLE = "pretrained", "oracle"
PPO_SCRATCH, PPO_META, PPO_PRETRAINED = "PPO from scratch", f"PPO from {META}", f"PPO from {PRETRAINED}"
TASKS = 20
"""Number of test tasks, if the split has as many."""
POINTS = (0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Rollouts after which PPO is tested."""
VISIBLE = "goal_visible"
"""The option of a family that adds the task to the observations."""


@dataclass(frozen=True)
class Run:
    """A run of the comparison, with its last checkpoint."""

    folder: Path
    experiment: Experiment
    state: State


@dataclass(frozen=True)
class Setup:
    """The test tasks, and the runs whose policies are measured on them."""

    run: Run
    """The run that adapts."""
    pretrained: Run | None
    """One that was trained on all tasks without adaptation."""
    rl2: RL2Record | None
    """RL² on the same test tasks."""
    oracle: Run | None
    """One that was trained on all tasks and sees its task."""
    split: str
    """The split that the test tasks come from."""
    tasks: Sequence[Any]
    as_data: Sequence[Mapping[str, Any]]
    """The tasks as plain data."""
    units: Mapping[str, str]
    """Field of a task -> its unit."""
    env: TaskVectorEnv
    """E simulations for each test task."""
    policy: GaussianMLP
    """The policy of `run`."""
    episodes: int
    """E, test episodes, and the episodes of an adaptation step or rollout."""
    steps: int
    """K, adaptation steps."""
    seed: int
    """Of initial states, exploration and minibatches."""
    tuned_on: Sequence[Any]
    """The tasks that settings are chosen on; empty where none are chosen."""
    tuned_split: str
    """The split of these tasks."""

    @property
    def steps_each(self) -> int:
        """Environment steps on a task in one rollout or adaptation step, E T."""
        return self.episodes * self.run.experiment.env.horizon

    @property
    def family(self) -> str:
        """The name of the family, such as `PointNav-v0`."""
        return family_name(self.run.experiment.env.id)

    @property
    def title(self) -> str:
        """The title of tables and figures: family, test tasks and episodes."""
        tasks = f"{len(self.tasks)} {self.split} tasks"
        return f"{self.family}, {tasks}, {self.episodes} episodes a step"

    @property
    def about(self) -> dict[str, Any]:
        """The runs and settings of the comparison, as plain data."""
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
        """The environment steps that each run was trained for, as text."""
        return ", ".join(f"{name} {steps:,}" for name, steps in self._environment_steps.items())

    @property
    def _environment_steps(self) -> dict[str, int]:
        named = {META: self.run, "pretrained": self.pretrained, ORACLE: self.oracle}
        steps = {name: run.state.environment_steps for name, run in named.items() if run}
        return steps | ({rl2.LABEL: self.rl2.training["environment_steps"]} if self.rl2 else {})

    @property
    def ppo_policy(self) -> GaussianMLP:
        """The policy that PPO trains: that of `run`, without a latent variable."""
        return replace(self.policy, latent_size=0)

    @property
    def starts(self) -> dict[str, Params]:
        """Label -> parameters that PPO starts from, of `ppo_policy` and a critic."""
        first = initial_params(self.policy, self.run.experiment)
        starts = {PPO_SCRATCH: first, PPO_META: self.run.state.params}
        if self.pretrained:
            starts[PPO_PRETRAINED] = self.pretrained.state.params
        return {label: self._with_critic(params) for label, params in starts.items()}

    def _with_critic(self, params: Params) -> Params:
        """The policy's parameters, without learned step sizes, and the run's critic or else a new one."""
        params, rng = at_latent_mean(params), torch.Generator().manual_seed(self.seed)
        new = SB3PPO().start(self.ppo_policy, self.ppo_policy.acting(params), rng)
        return {name: params.get(name, p) for name, p in new.items()}

    @property
    def adapting(self) -> dict[str, tuple[Experiment, Params]]:
        """Label -> settings and parameters before adaptation, of each method that adapts by gradient steps."""
        run = self.run
        random = initial_params(self.policy, run.experiment)
        own = {META: (run.experiment, run.state.params), RANDOM: (run.experiment, random)}
        if self.pretrained:
            own[PRETRAINED] = self.pretrained.experiment, self.pretrained.state.params
        return {
            label: (replace(each, evaluation=replace(each.evaluation, episodes=self.episodes)), params)
            for label, (each, params) in own.items()
        }

    def tune(self) -> dict[str, Tuned]:
        """Label -> the settings of adaptation that were chosen, for methods that have something to choose."""
        if not self.tuned_on:
            return {}
        found = {
            label: tune_adaptation(
                make_policy(experiment, self.env),
                params,
                experiment,
                tasks=len(self.tuned_on),
                steps=self.steps,
                seed=self.seed,
            )
            for label, (experiment, params) in self.adapting.items()
        }
        return {label: tuned for label, tuned in found.items() if tuned}

    def adapt(self, tuned: Mapping[str, Tuned]) -> dict[str, NDArray[np.floating]]:
        """Label -> return after 0..K adaptation steps, (tasks, K+1), measured as by `metarl evaluate`."""
        returns = {}
        for label, (experiment, params) in self.adapting.items():
            own, scale = adapting_with(experiment, tuned[label].chosen if label in tuned else {})
            policy = make_policy(own, self.env)
            result = evaluate(self.env, policy, params, own, self.tasks, steps=self.steps, seed=self.seed, scale=scale)
            returns[label] = result.means
        return returns

    def reward_scale(self, adapted: Mapping[str, NDArray[np.floating]]) -> float:
        """`reward_scale` for PPO on these tasks; adapted: returns as from `adapt`."""
        experiment = self.run.experiment
        return reward_scale([*adapted.values()], experiment.env.horizon, experiment.sampling.gamma)

    def ask_oracle(self) -> NDArray[np.floating] | None:
        """Mean return of the oracle on each test task, (tasks,); None without an oracle."""
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
    recurrent: Path | None = None,
    split: str | None = None,
    tasks: int | None = None,
    episodes: int | None = None,
    steps: int = 3,
    seed: int = 0,
    tune: int = 0,
) -> Setup:
    """Read the runs and check that they can be compared.

    Args:
        folder: the run that adapts.
        pretrained: a run with the same settings that was trained on all tasks without adaptation.
        recurrent: a run of RL², measured on the same test tasks.
        oracle: the same as `pretrained`, but it also sees its task.
        split: of the test tasks; by default the one that the run's results are reported on.
        tasks: number of test tasks; by default 20, or all if there are fewer.
        episodes: E; by default that of the run's own test.
        steps: K, adaptation steps.
        seed: of initial states, exploration and minibatches.
        tune: number of validation tasks to choose settings on; 0: none are chosen.

    Errors: UserError if a run is missing, or cannot be compared with the run that adapts.
    """
    run = _read(folder)
    _check_adapts(run)
    experiment = run.experiment
    split, episodes = split or experiment.evaluation.reported, episodes or experiment.evaluation.episodes
    space = make_vector_env(experiment.env, 1, 1).task_space.restrict(split)
    count = tasks or min(TASKS, len(set(space.grid(TASKS))))
    env = make_vector_env(experiment.env, count * episodes, experiment.threads)
    fixed, policy = fixed_tasks(env, split, count), make_policy(experiment, env)
    tuned_on, tuned_split = tuning_tasks(experiment, tune) if tune else ([], "")
    runs.check_shapes(folder / runs.CHECKPOINT, run.state.params, initial_params(policy, experiment))
    return Setup(
        run=run,
        pretrained=_pretrained(pretrained, run, env) if pretrained else None,
        rl2=_rl2(recurrent, run, split, [dict(space.to_dict(task)) for task in fixed]) if recurrent else None,
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
        tuned_on=tuned_on,
        tuned_split=tuned_split,
    )


def points(rollouts: int) -> tuple[int, ...]:
    """Rollouts after which PPO is tested: 0, 1, 2, 3, 5, 10, … and the last one."""
    return (*(point for point in POINTS if point < rollouts), rollouts)


def reward_scale(returns: Sequence[NDArray[np.floating]], horizon: int, gamma: float) -> float:
    """A factor on rewards that brings discounted returns to about 1, rounded to one digit; 1.0 if all returns are 0.

    It is 1 / (r sum_t gamma^t) with the largest mean |return| / T of `returns` as the reward r of every step.

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
    """Raise UserError for an oracle or pretrained run in place of the run that adapts."""
    if run.experiment.env.options.get(VISIBLE):
        raise UserError(
            f"{run.folder} sees its task (env.options.{VISIBLE} = true), and so has nothing to adapt to: give it as "
            "--oracle, and as RUN_DIR a run that adapts"
        )
    if run.experiment.algorithm.inner.steps == 0:
        raise UserError(
            f"{run.folder} was trained without adaptation (algorithm.inner.steps = 0): give it as --pretrained, and as "
            "RUN_DIR a run that adapts"
        )


def _pretrained(folder: Path, run: Run, env: TaskVectorEnv) -> Run:
    found = _read(folder)
    _check_joint("--pretrained", found)
    _check_same("--pretrained", found, run, ("env.", "policy.", "sampling.split"), ("policy.latent_size",))
    expected = initial_params(make_policy(found.experiment, env), found.experiment)
    runs.check_shapes(folder / runs.CHECKPOINT, found.state.params, expected)
    return found


def _oracle(folder: Path, run: Run) -> Run:
    found = _read(folder)
    if not found.experiment.env.options.get(VISIBLE):
        raise UserError(
            f"--oracle {folder} does not see its task: env.options.{VISIBLE} is "
            f"{found.experiment.env.options.get(VISIBLE, False)!r}. {advice(run.experiment, 'oracle')}"
        )
    _check_joint("--oracle", found)
    _check_same("--oracle", found, run, ("env.", "sampling.split"), ("env.options", f"env.options.{VISIBLE}"))
    env = make_vector_env(found.experiment.env, 1, 1)
    expected = initial_params(make_policy(found.experiment, env), found.experiment)
    runs.check_shapes(folder / runs.CHECKPOINT, found.state.params, expected)
    return found


def _rl2(folder: Path, run: Run, split: str, tasks: Sequence[Mapping[str, Any]]) -> RL2Record:
    found, env = rl2.read(folder), run.experiment.env
    protocols = {
        "env.id": (family_name(found.environment), family_name(env.id)),
        "env.options": (found.options, env.options),
        "env.horizon": (found.horizon, env.horizon),
        "the split": (found.split, split),
        "the number of test tasks": (len(found.tasks), len(tasks)),
        "the test tasks": (plain(found.tasks), plain(tasks)),
    }
    for name, (theirs, own) in protocols.items():
        if theirs != own:
            values = "" if name == "the test tasks" else f": {theirs!r} and {own!r}"
            values += f". Give --tasks {theirs}" if name == "the number of test tasks" else ""
            raise UserError(f"--rl2 {folder} cannot be compared with {run.folder}: {name} differ{values}")
    return found


def _check_joint(flag: str, run: Run) -> None:
    """Raise UserError for a run that was trained to adapt."""
    if steps := run.experiment.algorithm.inner.steps:
        raise UserError(
            f"{flag} {run.folder} was trained to adapt: algorithm.inner.steps = {steps}, expected 0. "
            f"{advice(run.experiment, flag.removeprefix('--'))}"
        )


def _check_same(flag: str, other: Run, run: Run, settings: tuple[str, ...], apart_from: Sequence[str] = ()) -> None:
    """Raise UserError if `other` differs from `run` in settings whose names start with one of `settings`."""
    differences = config.difference(run.experiment, other.experiment)
    lines = [
        f"{key} is {theirs!r}, in {run.folder} {own!r}"
        for key, (own, theirs) in differences.items()
        if key.startswith(settings) and key not in apart_from
    ]
    if lines:
        raise UserError("\n  ".join([f"{flag} {other.folder} cannot be compared with {run.folder}:", *lines]))


def advice(experiment: Experiment, name: str) -> str:
    """A hint for error messages: the config that trains a `pretrained` run or an `oracle`."""
    family = family_name(experiment.env.id).rsplit("-v", 1)[0]
    folder = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[0-9]d)(?=[A-Z])", "_", family).lower()
    own = f"{folder}/{name}"
    if own in shipped.names():
        return f"metarl train {own} trains one; env and policy have to be those of the run"
    return f"the config point_nav/{name} is an example; env and policy have to be those of the run"
