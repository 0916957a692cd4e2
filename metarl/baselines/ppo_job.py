"""PPO of Stable-Baselines3 on each test task, in several processes.

The result of a task is written to RUN_DIR/baselines/METHOD-TASK-FINGERPRINT.json when it is learned. The fingerprint
is a hash of everything that the result depends on. A call after an interrupted one therefore only learns the tasks that
are missing, and tasks are learned again with other settings, or after more training of the run.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metarl import config
from metarl.baselines.setup import PPO_SCRATCH, Setup, points
from metarl.errors import RunFailed, UserError
from metarl.experiment import Environment
from metarl.experiment.builders import make_vector_env
from metarl.experiment.tuning import Candidate
from metarl.inner.sb3 import SB3PPO
from metarl.parameters import expand
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.sampling.rollout import rollout
from metarl.seeding import Purpose, stream
from metarl.statistics import plain
from metarl.system.files import parse_json, write_atomically
from metarl.system.threads import set_threads
from metarl.types import Params

FOLDER = "baselines"
GAE_LAMBDA = 0.95
"""Of PPO: the default of Stable-Baselines3."""
ACTION_SCALES = (0.1, 0.3, 1.0)
"""Candidates for the action scale of PPO from scratch."""
LEARNING_RATES = (3e-4, 1e-3, 3e-3, 1e-2)
"""Candidates for the learning rate of PPO; with the action scales as many as adaptation has."""
LEARNING_RATE = 1e-3
"""The learning rate of PPO where none is chosen."""
LARGEST = 64
"""The largest number of steps in a minibatch: the default of Stable-Baselines3."""


@dataclass(frozen=True)
class PPOResult:
    """The result of PPO on one task."""

    returns: NDArray[np.floating]
    """(P,): mean return of the E test episodes at each test point; NaN if all of them diverged."""
    metrics: Sequence[tuple[int, dict[str, float | None]]]
    """For each rollout, the environment steps on the task so far, and the metrics of Stable-Baselines3."""


@dataclass(frozen=True)
class PPOJob:
    """One method on one task: everything that the result depends on."""

    label: str
    index: int
    """Index of the task among the test tasks."""
    task: Any
    env: Environment
    policy: GaussianMLP
    params: Mapping[str, NDArray[np.floating]]
    """What policy and critic start from, as arrays, which can be pickled for other processes."""
    ppo: SB3PPO
    """Its settings; `steps` is the number of rollouts."""
    gamma: float
    episodes: int
    """E"""
    seed: int
    folder: Path
    """The folder of its file."""
    candidate: bool = False
    """Whether it is run to choose settings. If it diverges, it has no returns, and the others go on."""

    @property
    def file(self) -> Path:
        """The file that the result is written to."""
        numbers = [self.index, self.gamma, GAE_LAMBDA, self.episodes, self.seed]
        settings = [repr(self.task), repr(self.policy), numbers, config.to_dict(self.env), config.to_dict(self.ppo)]
        content = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for name, p in sorted(self.params.items()):
            content.update(name.encode() + p.tobytes())
        return self.folder / f"{self.label.replace(' ', '-')}-{self.index:03d}-{content.hexdigest()[:12]}.json"

    def read(self) -> PPOResult:
        """The result, from its file. Errors: UserError if the file is damaged."""
        try:
            data = parse_json(self.file.read_bytes())
            returns = np.array(data["returns"], dtype=float)
            if returns.shape != (len(points(self.ppo.steps)),):
                raise ValueError(f"returns have shape {returns.shape}")
            return PPOResult(returns, [(int(at), dict(metrics)) for at, metrics in data["metrics"]])
        except (KeyError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise UserError(
                f"{self.file} is damaged ({reason[:100]}). Remove it, and the task is learned again."
            ) from error

    def run(self) -> None:
        """Learn the task, test the policy at each point, and write the file.

        Errors: RunFailed if simulations or parameters diverged.
        """
        env, metrics = make_vector_env(self.env, self.episodes, 1), []
        settings = {"horizon": self.env.horizon, "gamma": self.gamma, "gae_lambda": GAE_LAMBDA}
        learner = self.ppo.learner(self.policy, env, **settings, log=lambda row, at: metrics.append((at, row)))
        own = stream(self.seed, Purpose.SB3, task=self.index)
        try:
            start = {name: torch.from_numpy(p) for name, p in self.params.items()}
            path = [start, *learner.learn(start, self.task, self.ppo.steps, own).params]
            returns = [self._test(env, path[k], k) for k in points(self.ppo.steps)]
        except RunFailed as error:
            if not self.candidate:
                raise RunFailed(
                    f"{self.label} on {self.task.label}: {error}. What is finished is kept. A smaller --learning-rate "
                    "may help."
                ) from error
            returns = [float("nan")] * len(points(self.ppo.steps))
        env.close()
        content = {"returns": returns, "metrics": metrics}
        write_atomically(self.file, json.dumps(plain(content), allow_nan=False).encode())

    def _test(self, env: Any, params: Params, rollouts: int) -> float:
        """Mean return of E episodes, on the random streams of an evaluation after `rollouts` adaptation steps."""
        env.set_tasks([self.task])
        own = stream(self.seed, Purpose.EVALUATION, phase=rollouts, task=self.index)
        played = rollout(env, self.policy, expand(self.policy.acting(params), 1), [own], self.env.horizon)
        return played.returns.nanmean().item()


def minibatches(steps: int) -> int:
    """The smallest number of equal minibatches, of at most 64 steps each, that a rollout of `steps` divides into."""
    size = max((size for size in range(2, LARGEST + 1) if steps % size == 0), default=steps)
    return steps // size


def ppo_candidates(
    setup: Setup, label: str, learning_rate: float | None = None, action_scale: float | None = None
) -> list[Candidate]:
    """The settings of a method that are compared on validation tasks; a single one where there is nothing to choose.

    Args:
        learning_rate: the only candidate, if given.
        action_scale: the same, for PPO from scratch. A trained policy has its own.
    """
    scales, rates = (setup.policy.action_scale,), (learning_rate or LEARNING_RATE,)
    if label == PPO_SCRATCH and (action_scale or setup.tuned_on):
        scales = (action_scale,) if action_scale else ACTION_SCALES
    if not learning_rate and setup.tuned_on:
        rates = LEARNING_RATES
    return [{"action_scale": scale, "learning_rate": rate} for scale in scales for rate in rates]


def ppo_jobs(
    setup: Setup, label: str, ppo: SB3PPO, chosen: Candidate, tasks: Sequence[Any] | None = None
) -> list[PPOJob]:
    """The jobs of a method, one for each task.

    Args:
        ppo: its settings.
        chosen: those of them that are changed.
        tasks: validation tasks, to compare candidates on; None for the test tasks.
    """
    experiment = setup.run.experiment
    params = setup.starts[label]
    return [
        PPOJob(
            label=label,
            index=index,
            task=task,
            env=experiment.env,
            policy=replace(setup.ppo_policy, action_scale=chosen.get("action_scale", setup.policy.action_scale)),
            params={name: p.detach().numpy() for name, p in params.items()},
            ppo=replace(ppo, learning_rate=chosen.get("learning_rate", ppo.learning_rate)),
            gamma=experiment.sampling.gamma,
            episodes=setup.episodes,
            seed=setup.seed,
            folder=setup.run.folder / FOLDER / ("candidates" if tasks else ""),
            candidate=tasks is not None,
        )
        for index, task in enumerate(tasks or setup.tasks)
    ]


def run_jobs(jobs: Iterable[PPOJob], workers: int, after_each: Callable[[], None] = lambda: None) -> None:
    """Run the jobs, `workers` at a time; with one worker, in this process.

    after_each: called after each job.

    Errors: RunFailed for the first job that fails; the results of finished jobs are kept.
    """
    if workers == 1:
        for job in jobs:
            job.run()
            after_each()
        return
    with _pool(workers) as pool:
        waiting: list[Future[None]] = [pool.submit(job.run) for job in jobs]
        for done in as_completed(waiting):
            done.result()
            after_each()


@contextmanager
def _pool(workers: int) -> Generator[ProcessPoolExecutor]:
    """Processes with one thread each, which are terminated if this process is interrupted or fails."""
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _begin() -> None:
    """Initialize a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is handled by the process that started it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # which terminates this one, also where it inherited to ignore that
    set_threads(1)
