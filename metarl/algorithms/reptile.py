"""Reptile (Nichol et al. 2018): theta <- theta + epsilon mean_i(theta_i - theta), without a derivative of theta_i."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from metarl.algorithms import optimizers
from metarl.algorithms.optimizers import Optimizer
from metarl.config.settings import LARGEST, settings
from metarl.inner import PPO, SGD
from metarl.inner.sb3 import SB3A2C, SB3PPO
from metarl.parameters import rows, unflatten
from metarl.system import ranks
from metarl.types import AlgorithmState, Experience, Params


@settings
class Reptile:
    """Move theta towards the mean of the adapted parameters. `sampling.tasks: 1` gives the paper's serial version."""

    name: Literal["reptile"] = "reptile"
    uses_query: ClassVar[bool] = False
    inner: Annotated[SGD | PPO | SB3PPO | SB3A2C, Field(discriminator="name")] = SGD(steps=3)
    """The inner loop, which adapts a policy to one task. With one step of sgd this is joint training on all tasks."""
    optimizer: Optimizer = "sgd"
    """sgd: the step of the formula above; adam: a step of Adam with the gradient theta - mean_i(theta_i)."""
    step_size: float = Field(1.0, gt=0, le=LARGEST)
    """epsilon at the start."""
    final_step_size: float = Field(0.0, ge=0, le=LARGEST)
    """epsilon at the end of the annealing."""
    anneal_iterations: int = Field(0, ge=0, le=10**9)
    """Iterations in which epsilon changes linearly from step_size to final_step_size; 0: it is constant."""

    def __post_init__(self) -> None:
        if isinstance(self.inner, SGD):
            _refuse_options_of_derivatives(self.inner)
        optimizers.check_annealing("final_step_size", self.final_step_size, self.anneal_iterations)
        if not self.inner.steps:
            raise ValueError("inner.steps = 0: Reptile moves towards adapted parameters. Choose 2 steps or more")

    def update(
        self, model: object, params: Params, state: AlgorithmState, experience: Experience
    ) -> tuple[Params, AlgorithmState, dict[str, float]]:
        """One outer step.

        Args:
            model: not used.
            params: theta, shared by all tasks.
            state: the number of iterations done, and the optimizer's state.
            experience: only the adapted parameters are used.

        Returns:
            The new theta and state, and metrics.
        """
        iteration = state.get("iteration", 0)
        differences = {name: p - experience.adapted[name] for name, p in params.items()}
        direction = ranks.mean(rows(differences), experience.all_tasks)
        epsilon = optimizers.annealed(self.step_size, self.final_step_size, self.anneal_iterations, iteration)
        updated, optimizer = params, state.get("optimizer", {})
        if epsilon:
            gradient = unflatten(direction, params)
            updated, optimizer = optimizers.step(self.optimizer, params, gradient, optimizer, epsilon)
        metrics = {"distance": direction.norm().item(), "epsilon": epsilon}
        return updated, {"iteration": iteration + 1, "optimizer": optimizer}, metrics


def _refuse_options_of_derivatives(inner: SGD) -> None:
    """Raise ValueError for options that only matter to algorithms that differentiate through the inner loop."""
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
            "inner.last_layer_only: Reptile moves towards adapted parameters, so the other layers would never be "
            "trained. Leave it out, or choose algorithm: maml_trpo"
        )
