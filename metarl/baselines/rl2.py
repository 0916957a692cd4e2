"""RL² (Duan et al. 2016): a recurrent policy that keeps its memory through several episodes on one task.

It is trained by RecurrentPPO of sb3-contrib, unmodified, on trials of `TrialVecEnv`, and adapts without gradients: the
memory of the first episodes decides how it acts in the later ones. The result of a trained policy on test tasks is
RUN_DIR/rl2.json:

    format, version              "metarl-rl2", 1
    environment, options, horizon, split, tasks, units, seed   as in an evaluation
    trials                       trials on each task
    training                     seed and environment_steps
    returns                      (tasks, K): return of each episode of a trial, mean over trials
    noise                        (K,): standard error of the mean return that comes from the finite number of trials
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from metarl import config, runs
from metarl.config.settings import LARGEST, settings, with_signature
from metarl.errors import UserError
from metarl.experiment import Environment, Evaluation, Tracking
from metarl.experiment.builders import fixed_tasks, make_vector_env
from metarl.experiment.evaluation import AdaptationReturns
from metarl.runs.tracking import Tracker
from metarl.sampling.protocols import family_name
from metarl.seeding import SEEDS, Purpose, stream
from metarl.statistics import mean, plain
from metarl.system.files import write_atomically

FILE, FORMAT, VERSION = "rl2.json", "metarl-rl2", 1
LABEL = "RL²"


@settings
class RL2:
    """RL²: the environment, the trials, and the settings of RecurrentPPO."""

    env: Environment = Field(default_factory=Environment)
    episodes: int = Field(3, ge=1)
    """K, episodes of a trial."""
    action_scale: float = Field(0.1, gt=0, le=LARGEST)
    """Environment action per unit of policy output; exploration starts with this standard deviation."""
    hidden_size: int = Field(64, ge=1)
    """Units of the LSTM, and of the layer above it."""
    trials: int = Field(40, ge=1)
    """Trials at a time, each on a task of its own. A rollout is as long as a trial."""
    environment_steps: int = Field(1_600_000, ge=1)
    """Environment steps of training, rounded up to whole rollouts."""
    learning_rate: float = Field(1e-3, gt=0, le=LARGEST)
    """Of Adam; it falls linearly to 0."""
    epochs: int = Field(5, ge=1)
    """Passes over a rollout."""
    minibatches: int = Field(4, ge=1)
    """Equal parts of a pass."""
    clip_range: float = Field(0.2, gt=0, lt=1)
    """The surrogate does not reward a probability ratio outside [1 - clip_range, 1 + clip_range]."""
    gamma: float = Field(0.99, ge=0, le=1)
    """Discount per step, through all episodes of a trial."""
    gae_lambda: float = Field(0.95, ge=0, le=1)
    """Lambda of the generalized advantage estimate."""
    evaluation: Evaluation = Field(default_factory=Evaluation)
    """`episodes` is the number of trials on each test task; `every` counts rollouts. Steps and videos are not used."""
    tracking: Tracking = Field(default_factory=Tracking)
    seed: int = Field(0, ge=0, lt=SEEDS)
    """Everything random in the run follows from it."""
    threads: int = Field(0, ge=0, le=4096)
    """Threads of the simulation; 0 uses all available cores."""

    @property
    def rollout(self) -> int:
        """Environment steps of a rollout."""
        return self.trials * self.episodes * self.env.horizon

    def __post_init__(self) -> None:
        if self.rollout % self.minibatches:
            raise ValueError(
                f"minibatches = {self.minibatches} does not divide the {self.rollout} steps of a rollout "
                "(trials · episodes · env.horizon): choose a divisor"
            )


def _array(rows: Any) -> NDArray[np.floating]:
    """An array of numbers; None becomes NaN."""
    try:
        return np.array(rows, dtype=float)
    except TypeError as error:
        raise ValueError(f"numbers were expected: {error}") from error


Numbers = Annotated[np.ndarray, BeforeValidator(_array)]


@with_signature
@dataclass(frozen=True, kw_only=True, eq=False, config=ConfigDict(strict=True, arbitrary_types_allowed=True))
class RL2Record:
    """The returns of a trained policy in the episodes of trials on test tasks."""

    environment: str
    options: dict[str, Any]
    horizon: int
    split: str
    tasks: tuple[dict[str, Any], ...]
    units: dict[str, str]
    seed: int
    trials: int
    training: dict[str, int]
    """seed and environment_steps."""
    returns: Numbers
    """(tasks, K): return of each episode of a trial, mean over trials."""
    noise: Numbers
    """(K,): standard error of the mean return from the finite number of trials."""

    def __post_init__(self) -> None:
        if self.returns.ndim != 2 or len(self.returns) != len(self.tasks) or not self.returns.size:
            raise ValueError(f"returns have shape {self.returns.shape}, not ({len(self.tasks)} tasks, episodes)")

    @property
    def title(self) -> str:
        """Family, test tasks and trials: the title of tables."""
        return f"{family_name(self.environment)}, {len(self.tasks)} {self.split} tasks, {self.trials} trials on each"

    def to_json(self) -> dict[str, Any]:
        """The content of the file as plain data for strict JSON."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields |= {"returns": self.returns.tolist(), "noise": self.noise.tolist()}
        return {"format": FORMAT, "version": VERSION, **plain(fields)}


def read(run_dir: Path) -> RL2Record:
    """The record of a run. Errors: UserError where it is missing or damaged."""
    path = run_dir / FILE
    if not path.is_file():
        raise UserError(f"{run_dir} has no {FILE}: it is no finished run of metarl rl2")
    try:
        return TypeAdapter(RL2Record).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise UserError(f"{path} is damaged: {where}: {first['msg']}. Train the run again.") from error


def recurrent_ppo() -> Any:
    """The class RecurrentPPO. Errors: UserError, with the extra to install, where sb3-contrib is missing."""
    try:
        from sb3_contrib import RecurrentPPO
    except ModuleNotFoundError as error:
        raise UserError("RL² needs sb3-contrib: pip install 'metarl-suite[recurrent]'") from error
    return RecurrentPPO


def train(settings: RL2, run_dir: Path, tracker: Tracker, after_each: Callable[[], None] = lambda: None) -> RL2Record:
    """Train the policy, test it on validation tasks in between, and measure it on the tasks that are reported.

    The policy is written to RUN_DIR/model.zip, the statistics of its observations to RUN_DIR/vecnormalize.pkl, both of
    Stable-Baselines3, and the record to RUN_DIR/rl2.json.

    Args:
        after_each: called after each rollout.

    Errors: UserError where sb3-contrib is missing, or a split has too few tasks.
    """
    make = recurrent_ppo()
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.vec_env import VecNormalize

    from metarl.sb3.metrics import Metrics
    from metarl.sb3.trial_env import TrialVecEnv

    env, test = make_vector_env(settings.env, settings.trials, settings.threads), settings.evaluation
    fixed_tasks(env, test.reported, test.tasks)  # refused now rather than after training
    space, rng = env.task_space.restrict("train"), stream(settings.seed, Purpose.TASKS)
    trials = TrialVecEnv(env, settings.episodes, lambda n: space.stratified(n, rng), settings.action_scale)
    normalized = VecNormalize(trials, gamma=settings.gamma)
    model = make(
        "MlpLstmPolicy",
        normalized,
        n_steps=settings.episodes * settings.env.horizon,
        batch_size=settings.rollout // settings.minibatches,
        n_epochs=settings.epochs,
        learning_rate=lambda left: left * settings.learning_rate,
        **{name: getattr(settings, name) for name in ("clip_range", "gamma", "gae_lambda")},
        policy_kwargs={"lstm_hidden_size": settings.hidden_size, "net_arch": [settings.hidden_size]},
        seed=settings.seed % 2**32,
        device="cpu",
    )

    def log(row: dict[str, float], at: int) -> None:
        tracker.log(row, iteration=at // settings.rollout, environment_steps=at)

    metrics = Metrics(log)
    model.set_logger(Logger(folder=None, output_formats=[metrics]))

    class Tests(BaseCallback):
        """Tests the policy between rollouts."""

        def _on_step(self) -> bool:
            return True

        def _on_rollout_start(self) -> None:
            if self.num_timesteps // settings.rollout % test.every == 0:
                self.test()

        def _on_rollout_end(self) -> None:
            after_each()

        def _on_training_end(self) -> None:
            self.test()

        def test(self) -> None:
            found = mean(measure(settings, model, normalized, test.split).returns, axis=0)
            section = test.split.replace("-", "_")
            log({f"{section}/return_episode_{k + 1}": float(x) for k, x in enumerate(found)}, self.num_timesteps)

    model.learn(settings.environment_steps, callback=Tests())
    record = measure(settings, model, normalized, test.reported)
    model.save(run_dir / "model.zip")
    normalized.save(str(run_dir / "vecnormalize.pkl"))
    write_atomically(run_dir / FILE, json.dumps(record.to_json(), indent=1, allow_nan=False).encode())
    normalized.close()
    return record


def measure(settings: RL2, model: Any, normalized: Any, split: str) -> RL2Record:
    """Play trials on the test tasks with the stochastic policy, whose memory is empty at the start of each trial.

    Args:
        model: a trained RecurrentPPO.
        normalized: the VecNormalize that it was trained with; its statistics are used and not changed.
    """
    from metarl.sb3.trial_env import TrialVecEnv

    test, number = settings.evaluation, settings.evaluation.tasks * settings.evaluation.episodes
    env = make_vector_env(settings.env, number, settings.threads)
    tasks, space = fixed_tasks(env, split, test.tasks), env.task_space
    of_trials = [task for task in tasks for _ in range(test.episodes)]
    trials = TrialVecEnv(env, settings.episodes, lambda n: of_trials[:n], settings.action_scale)
    trials.seed(int(stream(0, Purpose.EVALUATION).integers(2**32)))
    observation, memory, start = trials.reset(), None, np.ones(number, bool)
    returns = np.full((number, settings.episodes), np.nan)
    with torch.random.fork_rng(devices=[]):  # a test draws actions of its own, and training goes on as without it
        torch.manual_seed(int(stream(0, Purpose.EVALUATION, phase=1).integers(2**62)))
        while np.isnan(returns[:, 0]).any():
            seen = normalized.normalize_obs(observation)
            actions, memory = model.predict(seen, state=memory, episode_start=start)
            observation, _, start, infos = trials.step(actions)
            for n in np.flatnonzero(start & np.isnan(returns[:, 0])):
                returns[n] = infos[n]["returns"]
    trials.close()
    by_task = AdaptationReturns(returns.reshape(test.tasks, test.episodes, -1).swapaxes(1, 2), ())
    return RL2Record(
        environment=settings.env.id,
        options=settings.env.options,
        horizon=settings.env.horizon,
        split=split,
        tasks=tuple(dict(space.to_dict(task)) for task in tasks),
        units=dict(space.units),
        seed=0,
        trials=test.episodes,
        training={"seed": settings.seed, "environment_steps": model.num_timesteps},
        returns=by_task.means,
        noise=by_task.noise,
    )


def open_tracker(settings: RL2, run_dir: Path) -> Tracker:
    """Create the run directory, and a tracker that writes to W&B and metrics.jsonl."""
    runs.create(run_dir, settings)
    names = runs.names(
        settings.tracking,
        group=f"{family_name(settings.env.id)}/rl2",
        name=runs.named(run_dir, settings.seed),
        tags=(family_name(settings.env.id), "rl2"),
    )
    about, run_id = config.to_dict(settings), runs.read_id(run_dir)
    return Tracker.open(run_dir, about, mode=settings.tracking.mode, run_id=run_id, **asdict(names))
