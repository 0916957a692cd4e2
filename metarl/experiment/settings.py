"""All settings of one experiment. A YAML file in `configs/` holds those that differ from the defaults here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from metarl.algorithms import Algorithm
from metarl.algorithms.maml_trpo import MAMLTRPO
from metarl.config.settings import LARGEST, settings
from metarl.inner.sgd import SGD
from metarl.seeding import SEEDS


@settings
class Environment:
    """The task distribution."""

    id: str = "envs:metarl/HalfCheetahVel-v0"
    """Gymnasium id, with the module that registers it before the colon."""
    horizon: int = Field(100, ge=1)
    """T, steps per episode."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the environment family, such as velocity_range."""


@settings
class Policy:
    """A Gaussian MLP."""

    hidden_sizes: tuple[Annotated[int, Field(ge=1)], ...] = (64, 64)
    """Units of each tanh layer; empty for a linear policy."""
    action_scale: float = Field(0.1, gt=0, le=LARGEST)
    """Environment action per unit of policy output: with 0.1, exploration starts at a tenth of the action range."""
    initial_std: float = Field(1.0, gt=0, le=LARGEST)
    """Standard deviation of the policy output at the start."""
    min_std: float = Field(1e-3, ge=0, le=LARGEST)
    """Smooth lower bound of the standard deviation of the policy output; 0: none."""
    normalize_observations: bool = True
    """Normalize observations by their mean and standard deviation over all of training so far."""
    latent_size: int = Field(0, ge=0, le=1_000)
    """Size of a latent variable that the policy observes, drawn once per episode before an adaptation step: it explores
    in one direction for a whole episode. Adaptation moves its mean by algorithm.inner.latent_step_size."""

    def __post_init__(self) -> None:
        if self.initial_std <= self.min_std:
            raise ValueError(f"initial_std = {self.initial_std} must be above min_std = {self.min_std}")


@settings
class Sampling:
    """The episodes of each iteration, and how advantages are estimated from them."""

    tasks: int = Field(40, ge=1)
    """M, tasks per iteration."""
    episodes: int = Field(20, ge=1)
    """E, episodes per task before each adaptation step, and as many after the last one."""
    gamma: float = Field(0.99, ge=0, le=1)
    """Discount per step."""
    gae_lambda: float = Field(1.0, ge=0, le=1)
    """Lambda of the generalized advantage estimate."""
    split: str = "train"
    """The split of the task space that training tasks are drawn from: train, or iid for the whole range."""


@settings
class Evaluation:
    """The fixed test that is repeated during training."""

    every: int = Field(10, ge=1)
    """Iterations between tests; there is always one at the start and one at the end."""
    split: str = "validation"
    """The split of the task space that the test tasks come from. Settings and the best checkpoint are chosen by this
    test. Results are then reported on the held-out split, whose tasks have no influence on these choices."""
    tasks: int = Field(40, ge=1)
    """Number of test tasks, evenly spread over the split; they are the same in every test."""
    steps: int = Field(1, ge=0, le=1_000)
    """K, adaptation steps."""
    later_steps: float = Field(0.5, gt=0, le=LARGEST)
    """Factor on the step size for adaptation steps beyond those of training (Finn et al. 2017: 0.5). Inner loops of
    Stable-Baselines3 do not use it."""
    episodes: int = Field(20, ge=1)
    """Episodes per task and adaptation step."""
    videos: int = Field(3, ge=0, le=1000)
    """Number of test tasks to film before and after adaptation, spread over all test tasks."""
    film: Literal["end", "always"] = "end"
    """When to film: end (after training) or always (in every test). Three tasks of 100 steps take 10 s (PointNav) to
    17 s (Ant) of one core, and their copies in W&B up to 5 MB."""

    @property
    def reported(self) -> str:
        """The split that results are reported on: held-out if this test is on validation tasks, otherwise its own."""
        return "held-out" if self.split == "validation" else self.split


@settings
class Tracking:
    """Weights & Biases."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto is online if a W&B login exists, otherwise offline; it never asks for one."""
    project: str = Field("metarl", min_length=1)
    group: str | None = None
    """Name of a group of runs in W&B; by default environment and algorithm."""
    tags: tuple[str, ...] = ()
    """Further tags; family, algorithm and split are always among them."""


@settings
class Experiment:
    """One training run."""

    env: Environment = Field(default_factory=Environment)
    policy: Policy = Field(default_factory=Policy)
    sampling: Sampling = Field(default_factory=Sampling)
    algorithm: Algorithm = Field(default_factory=MAMLTRPO)
    """First-order MAML, ANIL, Meta-SGD and E-MAML are settings of maml_trpo: first_order, inner.last_layer_only,
    inner.learned_step_sizes and exploration_credit."""
    evaluation: Evaluation = Field(default_factory=Evaluation)
    tracking: Tracking = Field(default_factory=Tracking)
    iterations: int = Field(100, ge=0)
    """Outer iterations."""
    start_from: str | None = None
    """A model of Stable-Baselines3 (.zip) whose actor is the initial theta. None: theta is random."""
    start_from_statistics: str | None = None
    """The statistics (.pkl) that VecNormalize saved with the model of start_from; training continues to update them.
    None: with start_from, the policy sees observations as they are."""
    seed: int = Field(0, ge=0, lt=SEEDS)
    """Everything random in the run follows from it."""
    threads: int = Field(0, ge=0, le=4096)
    """Threads for simulation and for gradients; 0 uses all available cores. The results do not depend on it."""

    def __post_init__(self) -> None:
        test = self.evaluation.split
        if test in ("validation", "held-out") and self.sampling.split in (test, "held-out", "iid"):
            raise ValueError(
                f"sampling.split = {self.sampling.split!r} with evaluation.split = {test!r}: training would see the "
                f"test tasks. Choose sampling.split train, or evaluation.split {self.sampling.split}"
            )
        if self.env.horizon == 1 and self.sampling.gae_lambda < 1:
            raise ValueError(
                f"sampling.gae_lambda = {self.sampling.gae_lambda} weights later steps, but episodes of one step have "
                "no later ones (env.horizon = 1): set it to 1"
            )
        if self.start_from_statistics and not self.start_from:
            raise ValueError("start_from_statistics without start_from: name the model that was trained with them")
        inner = self.algorithm.inner
        if self.policy.latent_size and not (isinstance(inner, SGD) and inner.loss != "dice"):
            chosen = f"loss {inner.loss}" if isinstance(inner, SGD) else f"name {inner.name}"
            raise ValueError(
                f"policy.latent_size = {self.policy.latent_size} with algorithm.inner.{chosen}: a latent variable is "
                "adapted by algorithm.inner.name sgd with the loss ratio or reinforce. Choose one of these, or "
                "latent_size 0"
            )
        if self.policy.latent_size and getattr(self.algorithm, "exploration_credit", 0):
            raise ValueError(
                "algorithm.exploration_credit with policy.latent_size: the credit is that of independent episodes, and "
                "the draws of a latent variable are spread evenly over a task's episodes. Set one of them to 0"
            )
        if isinstance(inner, SGD) and inner.last_layer_only and not self.policy.hidden_sizes:
            raise ValueError(
                "algorithm.inner.last_layer_only with policy.hidden_sizes = []: a linear policy has no layer below the "
                "last to keep. Give it hidden layers, such as [64, 64], or adapt all of it"
            )

    def step_scale(self, k: int) -> float:
        """The factor on the step size of adaptation step k = 0, 1, … in a test.

        It is `evaluation.later_steps` for steps beyond the K of training, and 1 for the others and for the first step.
        """
        inner = self.algorithm.inner
        is_later = inner.scalable and k >= max(inner.steps, 1)
        return self.evaluation.later_steps if is_later else 1.0
