"""The two loops on few-shot regression: inner steps and outer updates as for policies, without an environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from metarl.algorithms.maml_sgd import MAMLSGD
from metarl.algorithms.reptile import Reptile
from metarl.config.settings import settings
from metarl.experiment import Tracking
from metarl.few_shot.regression import DOMAIN, Examples, RegressionMLP, Sinusoids
from metarl.inner.sgd import SGD
from metarl.parameters import expand, require_finite
from metarl.seeding import SEEDS, Purpose, stream
from metarl.types import AlgorithmState, Experience, Params

TEST_TASKS = 200
GRID = 100
"""Inputs at which a curve is compared with the true one."""


@settings
class FewShot:
    """Few-shot regression of sinusoids."""

    algorithm: Annotated[MAMLSGD | Reptile, Field(discriminator="name")] = Field(default_factory=MAMLSGD)
    hidden_sizes: tuple[Annotated[int, Field(ge=1)], ...] = (40, 40)
    """Units of each ReLU layer."""
    tasks: int = Field(25, ge=1)
    """M, sinusoids per iteration."""
    points: int = Field(10, ge=1)
    """P, points per sinusoid and adaptation step; in the test, all adaptation steps share the same ones."""
    iterations: int = Field(10_000, ge=0)
    """Outer iterations."""
    test_every: int = Field(1000, ge=1)
    """Iterations between tests."""
    seed: int = Field(0, ge=0, lt=SEEDS)
    """Everything random follows from it; the test is the same for every seed."""
    tracking: Tracking = Field(default_factory=Tracking)

    def __post_init__(self) -> None:
        if not isinstance(self.algorithm.inner, SGD):
            name = self.algorithm.inner.name
            raise ValueError(f"algorithm.inner: {name!r} learns from episodes, and regression has none. Choose sgd")
        if self.inner.loss != SGD().loss:
            raise ValueError(f"algorithm.inner.loss = {self.inner.loss!r}: regression has one loss only. Leave it out")
        if self.inner.last_layer_only and not self.hidden_sizes:
            raise ValueError(
                "algorithm.inner.last_layer_only with hidden_sizes = []: no layer below it is left to keep"
            )

    @property
    def inner(self) -> SGD:
        """How the network adapts to one sinusoid; of its settings, `loss` has no meaning here."""
        assert isinstance(self.algorithm.inner, SGD)
        return self.algorithm.inner


@dataclass(frozen=True)
class HeldOut:
    """Sinusoids that are not trained on, a few points of each, and the whole of each."""

    few: Examples
    """(M, P, 1), what a network adapts to."""
    whole: Examples
    """(M, GRID, 1), what it is compared with."""

    @classmethod
    def draw(cls, points: int) -> HeldOut:
        """The same for every seed and algorithm."""
        rng = stream(0, Purpose.EVALUATION)
        tasks = Sinusoids.sample(TEST_TASKS, rng)
        grid = torch.linspace(*DOMAIN, GRID).view(1, -1, 1).expand(TEST_TASKS, -1, -1)
        return cls(tasks.examples(points, rng), tasks.at(grid))

    def predictions(self, network: RegressionMLP, inner: SGD, params: Params, steps: int) -> list[Tensor]:
        """The curve (M, GRID, 1) of each task after 0..steps gradient steps on its few points."""
        adapted, curves = expand(params, self.few.num_tasks), []
        for k in range(steps + 1):
            if k:
                adapted = inner.descend(network, adapted, self.few)
            with torch.no_grad():
                curves.append(network.predict(adapted, self.whole.inputs))
        return curves

    def errors(self, network: RegressionMLP, inner: SGD, params: Params, steps: int) -> NDArray[np.floating]:
        """Mean squared error of each task after 0..steps gradient steps, (M, steps + 1)."""
        curves = self.predictions(network, inner, params, steps)
        return torch.stack([(curve - self.whole.targets).square().mean((1, 2)) for curve in curves], 1).numpy()


def first_params(experiment: FewShot, network: RegressionMLP) -> Params:
    """theta before training, with step sizes where they are learned."""
    address = stream(experiment.seed, Purpose.INITIALIZATION)
    rng = torch.Generator().manual_seed(int(address.integers(2**62)))
    return experiment.inner.start(network, network.init(rng), rng)


def train(
    experiment: FewShot, network: RegressionMLP, after_each: Callable[[int, Params], None] = lambda i, params: None
) -> Params:
    """Meta-train; after each iteration, its number and the parameters are handed to `after_each`."""
    params: Params = first_params(experiment, network)
    state: AlgorithmState = {}
    for iteration in range(experiment.iterations):
        experience = collect(experiment, network, params, iteration)
        params, state, _ = experiment.algorithm.update(network, params, state, experience)
        require_finite(params, f"iteration {iteration + 1}")
        after_each(iteration + 1, params)
    return params


def collect(experiment: FewShot, network: RegressionMLP, params: Params, iteration: int) -> Experience:
    """Fresh points of fresh sinusoids before and, where the algorithm asks for it, after the adaptation steps."""
    inner, rng = experiment.inner, stream(experiment.seed, Purpose.TRAINING, iteration)
    tasks = Sinusoids.sample(experiment.tasks, rng)
    adapted, support = expand(params, experiment.tasks), []
    for _ in range(inner.steps):
        support.append(tasks.examples(experiment.points, rng))
        adapted = inner.descend(network, adapted, support[-1])
    query = tasks.examples(experiment.points, rng) if experiment.algorithm.uses_query else None
    return Experience(tuple(support), adapted, query)
