"""MAML and Reptile on few-shot regression: the inner and outer loop of policies, without an environment."""

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
from metarl.sampling.memory import parameter_bytes, require_memory
from metarl.seeding import SEEDS, Purpose, stream
from metarl.types import AlgorithmState, Experience, Params

TEST_TASKS = 200
"""Number of sinusoids in the test."""
GRID = 100
"""Number of inputs, evenly spread over the domain, at which a prediction is compared with the true sinusoid."""


@settings
class FewShot:
    """Few-shot regression of sinusoids."""

    algorithm: Annotated[MAMLSGD | Reptile, Field(discriminator="name")] = Field(default_factory=MAMLSGD)
    hidden_sizes: tuple[Annotated[int, Field(ge=1)], ...] = (40, 40)
    """Units of each ReLU layer."""
    tasks: int = Field(25, ge=1)
    """M, sinusoids per iteration."""
    points: int = Field(10, ge=1)
    """P, points per sinusoid and adaptation step. In the test, all adaptation steps use the same points."""
    iterations: int = Field(10_000, ge=0)
    """Outer iterations."""
    test_every: int = Field(1000, ge=1)
    """Iterations between tests."""
    seed: int = Field(0, ge=0, lt=SEEDS)
    """Everything random in training is a function of it; the test is the same for every seed."""
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
        """The inner loop, whose setting `loss` is not used here."""
        assert isinstance(self.algorithm.inner, SGD)
        return self.algorithm.inner


def check_memory(experiment: FewShot) -> None:
    """Raise UserError if the points of one adaptation step, or the adapted parameters, would not fit in memory."""
    tasks, sizes = max(experiment.tasks, TEST_TASKS), (1, *experiment.hidden_sizes, 1)
    require_memory(
        tasks * (4 * experiment.points * sum(sizes) + parameter_bytes(sizes)),
        f"tasks = {experiment.tasks:,} with points = {experiment.points:,} and hidden_sizes = {list(sizes[1:-1])}",
        "choose fewer tasks, fewer points or smaller layers",
    )


@dataclass(frozen=True)
class HeldOut:
    """The test: sinusoids that training does not see, with a few points to adapt to and a grid of points to predict."""

    few: Examples
    """(M, P, 1): the points that a network adapts to."""
    whole: Examples
    """(M, GRID, 1): the points that its predictions are compared with."""

    @classmethod
    def draw(cls, points: int) -> HeldOut:
        """The test with P = `points`; it is the same for every seed and algorithm."""
        rng = stream(0, Purpose.EVALUATION)
        tasks = Sinusoids.sample(TEST_TASKS, rng)
        grid = torch.linspace(*DOMAIN, GRID).view(1, -1, 1).expand(TEST_TASKS, -1, -1)
        return cls(tasks.examples(points, rng), tasks.at(grid))

    def predictions(self, network: RegressionMLP, inner: SGD, params: Params, steps: int) -> list[Tensor]:
        """The predictions on the grid, (M, GRID, 1), after 0, 1, …, `steps` gradient steps on the few points."""
        adapted, curves = expand(params, self.few.num_tasks), []
        for k in range(steps + 1):
            if k:
                adapted = inner.descend(network, adapted, self.few)
            with torch.no_grad():
                curves.append(network.predict(adapted, self.whole.inputs))
        return curves

    def errors(self, network: RegressionMLP, inner: SGD, params: Params, steps: int) -> NDArray[np.floating]:
        """Mean squared error on the grid after 0, 1, …, `steps` gradient steps, (M, steps + 1)."""
        curves = self.predictions(network, inner, params, steps)
        return torch.stack([(curve - self.whole.targets).square().mean((1, 2)) for curve in curves], 1).numpy()


def first_params(experiment: FewShot, network: RegressionMLP) -> Params:
    """theta before training, with the step sizes if they are learned; a function of the seed."""
    address = stream(experiment.seed, Purpose.INITIALIZATION)
    rng = torch.Generator().manual_seed(int(address.integers(2**62)))
    return experiment.inner.start(network, network.init(rng), rng)


def train(
    experiment: FewShot, network: RegressionMLP, after_each: Callable[[int, Params], None] = lambda i, params: None
) -> Params:
    """Meta-train, and return theta.

    Args:
        after_each: called after each iteration with the number of iterations done and theta.

    Errors: NonFinite if theta becomes infinite or NaN.
    """
    params: Params = first_params(experiment, network)
    state: AlgorithmState = {}
    for iteration in range(experiment.iterations):
        experience = collect(experiment, network, params, iteration)
        params, state, _ = experiment.algorithm.update(network, params, state, experience)
        require_finite(params, f"iteration {iteration + 1}")
        after_each(iteration + 1, params)
    return params


def collect(experiment: FewShot, network: RegressionMLP, params: Params, iteration: int) -> Experience:
    """New points of new sinusoids before each adaptation step and, for a query, after the last one."""
    inner, rng = experiment.inner, stream(experiment.seed, Purpose.TRAINING, iteration)
    tasks = Sinusoids.sample(experiment.tasks, rng)
    adapted, support = expand(params, experiment.tasks), []
    for _ in range(inner.steps):
        support.append(tasks.examples(experiment.points, rng))
        adapted = inner.descend(network, adapted, support[-1])
    query = tasks.examples(experiment.points, rng) if experiment.algorithm.uses_query else None
    return Experience(tuple(support), adapted, query)
