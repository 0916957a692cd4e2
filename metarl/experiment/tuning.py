"""Settings of adaptation that are chosen on validation tasks, for every method of a comparison.

Methods are compared fairly if each has the step size that suits it. So each method gets the best of the same number of
candidates on the same tasks: the one with the highest return, averaged over the tasks and over all tests after learning
began. A family without a validation split chooses on training tasks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from metarl.config.settings import with_signature
from metarl.errors import RunFailed
from metarl.experiment.builders import make_vector_env
from metarl.experiment.evaluation import evaluate
from metarl.experiment.settings import Experiment
from metarl.inner.sgd import SGD
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.sampling.protocols import TaskSpace
from metarl.seeding import Purpose
from metarl.types import Params

STEP_SCALES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Candidates for the step size of adaptation, in multiples of that of the run's config."""
LATER_STEPS = (1.0, 0.5)
"""Candidates for the factor on it in steps beyond those of training: whole or half steps."""

Candidate = Mapping[str, float]
"""Values of settings by name. `step_scale` is a factor on all step sizes; of `step_size` it is already a part."""


@with_signature
@dataclass(frozen=True, kw_only=True, config=ConfigDict(strict=True))
class Tuned:
    """The settings that were chosen for a method, and what they were chosen from."""

    chosen: dict[str, float]
    split: str
    """The split of the tasks that they were chosen on."""
    tasks: int
    """Number of these tasks."""
    candidates: tuple[dict[str, float | None], ...]
    """All candidates, with the mean return that they were compared by; None where something diverged."""

    @property
    def in_words(self) -> str:
        """`step size 0.2, later steps whole`."""
        named = "step_size" in self.chosen or "learning_rate" in self.chosen
        shown = {name: value for name, value in self.chosen.items() if name != "step_scale" or not named}
        return ", ".join(_WORDS[name](value) for name, value in shown.items())

    @property
    def how(self) -> str:
        """`the best of 12 on 10 validation tasks`."""
        return f"the best of {len(self.candidates)} on {self.tasks} {self.split} task{'s' * (self.tasks != 1)}"


_WORDS: Mapping[str, Callable[[float], str]] = {
    "step_size": lambda value: f"step size {value:g}",
    "later_steps": lambda value: "later steps " + {1.0: "whole", 0.5: "half"}.get(value, f"times {value:g}"),
    "step_scale": lambda value: f"learned step sizes times {value:g}",
    "action_scale": lambda value: f"action scale {value:g}",
    "learning_rate": lambda value: f"learning rate {value:g}",
}


def choose(measured: Iterable[tuple[Candidate, NDArray[np.floating]]], split: str, tasks: int) -> Tuned | None:
    """The candidate with the highest mean return after learning began.

    Args:
        measured: candidates, and their returns (tasks, P) at P test points, the first of them before learning. One with
            NaN, where a task diverged, is not chosen.
        split, tasks: what they were measured on.

    Returns:
        None if there are no candidates, or all of them diverged.
    """
    rows = [(dict(candidate), float(np.mean(returns[:, 1:]))) for candidate, returns in measured]
    finite = [(found, candidate) for candidate, found in rows if np.isfinite(found)]
    if not finite:
        return None
    _, best = max(finite, key=lambda row: row[0])
    candidates = tuple({**candidate, "return": found if np.isfinite(found) else None} for candidate, found in rows)
    return Tuned(chosen=best, split=split, tasks=tasks, candidates=candidates)


def tune_adaptation(
    policy: GaussianMLP,
    params: Params,
    experiment: Experiment,
    *,
    tasks: int,
    steps: int,
    seed: int = 0,
    after_each: Callable[[], None] = lambda: None,
) -> Tuned | None:
    """Choose the step size of adaptation, and whether later steps are whole or half.

    Args:
        policy, params: the policy and its parameters before adaptation.
        experiment: the settings; `evaluation.episodes` E is the number of episodes per task and step.
        tasks: number of tasks to choose on, or fewer if the split has fewer.
        steps: K, adaptation steps.
        seed: of initial states and exploration, the same for all candidates.
        after_each: called after each of the K+1 rounds of episodes of each candidate.

    Returns:
        None where there is nothing to choose: without steps, or for inner loops of Stable-Baselines3.
    """
    if not (candidates := adaptation_candidates(experiment, steps)):
        return None
    chosen_on, split = tuning_tasks(experiment, tasks)
    env = make_vector_env(experiment.env, len(chosen_on) * experiment.evaluation.episodes, experiment.threads)

    def returns(candidate: Candidate) -> NDArray[np.floating]:
        own, scale = adapting_with(experiment, candidate)
        options: dict[str, Any] = {"steps": steps, "seed": seed, "purpose": Purpose.TUNING, "after_each": after_each}
        try:
            return evaluate(env, policy, params, own, chosen_on, scale=scale, **options).means
        except RunFailed:
            return np.full((len(chosen_on), steps + 1), np.nan)

    measured = [(candidate, returns(candidate)) for candidate in candidates]
    env.close()
    return choose(measured, split, len(chosen_on))


def adaptation_candidates(experiment: Experiment, steps: int) -> list[Candidate]:
    """The candidates for K adaptation steps; empty where there is nothing to choose."""
    inner = experiment.algorithm.inner
    if not steps or not inner.scalable:
        return []
    later = LATER_STEPS if steps > max(inner.steps, 1) else (experiment.evaluation.later_steps,)
    learned = isinstance(inner, SGD) and inner.learned_step_sizes
    name = "step_size" if isinstance(inner, SGD) else "learning_rate"
    return [
        {"step_scale": scale, **({} if learned else {name: scale * getattr(inner, name)}), "later_steps": factor}
        for scale, factor in itertools.product(STEP_SCALES, later)
    ]


def adapting_with(experiment: Experiment, chosen: Candidate) -> tuple[Experiment, float]:
    """The settings with a candidate's size of later steps, and its factor on the step size; {}: as they are."""
    later = chosen.get("later_steps", experiment.evaluation.later_steps)
    evaluation = replace(experiment.evaluation, later_steps=later)
    return replace(experiment, evaluation=evaluation), chosen.get("step_scale", 1.0)


def tuning_tasks(experiment: Experiment, count: int) -> tuple[list[Any], str]:
    """At most `count` tasks to choose on, and their split: validation, or train for a family that has no other."""
    env = make_vector_env(experiment.env, 1, 1)
    split = _split(env.task_space)
    space = env.task_space.restrict(split)
    tasks = list(dict.fromkeys(space.grid(count)))
    env.close()
    return tasks, split


def _split(space: TaskSpace) -> str:
    try:
        space.restrict("validation")
    except (ValueError, KeyError):  # as families tell that they have no such split
        return "train"
    return "validation"
