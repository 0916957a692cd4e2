"""Reptile (Nichol et al. 2018): theta <- theta + epsilon mean_i(theta_i - theta). It needs no derivative."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from metarl.algorithms import optimizers
from metarl.algorithms.optimizers import Optimizer
from metarl.config.settings import settings
from metarl.inner import PPO, SGD
from metarl.inner.sb3 import SB3A2C, SB3PPO
from metarl.parameters import flatten
from metarl.types import AlgorithmState, Experience, Params


@settings
class Reptile:
    """Move towards what the tasks' own learners arrive at. With `sampling.tasks: 1` this is the serial version."""

    name: Literal["reptile"] = "reptile"
    uses_query: ClassVar[bool] = False
    inner: Annotated[SGD | PPO | SB3PPO | SB3A2C, Field(discriminator="name")] = SGD(steps=3)
    """How a policy adapts to one task. With a single step of sgd, Reptile learns what is good on average."""
    optimizer: Optimizer = "sgd"
    """sgd: the formula as it stands; adam: theta - mean_i(theta_i) as the gradient in Adam."""
    step_size: float = Field(1.0, gt=0)
    """epsilon at the start."""
    final_step_size: float = Field(0.0, ge=0)
    """epsilon at the end of the annealing."""
    anneal_iterations: int = Field(0, ge=0)
    """Iterations over which epsilon goes from one to the other, linearly; 0 leaves it as it is."""

    def __post_init__(self) -> None:
        if isinstance(self.inner, SGD):
            _refuse_derivatives(self.inner)
        if self.final_step_size and not self.anneal_iterations:
            raise ValueError("final_step_size without anneal_iterations: say over how many iterations to anneal")
        if not self.inner.steps:
            raise ValueError("inner.steps = 0: Reptile learns from where adaptation leads. Choose 2 steps or more")

    def epsilon(self, iteration: int) -> float:
        """The step size of an iteration."""
        if not self.anneal_iterations:
            return self.step_size
        done = min(iteration / self.anneal_iterations, 1.0)
        return (1 - done) * self.step_size + done * self.final_step_size

    def update(
        self, model: object, params: Params, state: AlgorithmState, experience: Experience
    ) -> tuple[Params, AlgorithmState, dict[str, float]]:
        """One outer step.

        Args:
            model: how parameters act, which plays no part.
            params: theta, shared by all tasks.
            state: the number of iterations done, and the optimizer's state.
            experience: the adapted parameters are all that counts.
        """
        iteration = state.get("iteration", 0)
        back = {name: (p - experience.adapted[name]).mean(0) for name, p in params.items()}
        epsilon = self.epsilon(iteration)
        updated, optimizer = params, state.get("optimizer", {})
        if epsilon:
            updated, optimizer = optimizers.step(self.optimizer, params, back, optimizer, epsilon)
        metrics = {"distance": flatten(back).norm().item(), "epsilon": epsilon}
        return updated, {"iteration": iteration + 1, "optimizer": optimizer}, metrics


def _refuse_derivatives(inner: SGD) -> None:
    """Raise ValueError for options of the inner loop that only a derivative of the adaptation could use."""
    if inner.loss == "dice":
        raise ValueError(
            "inner.loss = 'dice': dice differs from ratio in the second derivative alone, which Reptile never takes. "
            "Choose inner.loss ratio, or algorithm: maml_trpo"
        )
    if inner.learned_step_sizes:
        raise ValueError(
            "inner.learned_step_sizes: step sizes are learned by the derivative of the adaptation, which Reptile never "
            "takes. Leave it out, or choose algorithm: maml_trpo"
        )
    if inner.last_layer_only:
        raise ValueError(
            "inner.last_layer_only: Reptile moves towards adapted parameters, so that the other layers would stay as "
            "they began. Leave it out, or choose algorithm: maml_trpo"
        )
