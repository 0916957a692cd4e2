"""Stable-Baselines3's PPO on each test task, in several processes, each task once.

The result of a task is a file, RUN_DIR/baselines/LEARNER-TASK-FINGERPRINT.json, written when it is done. The
fingerprint is of everything that the result depends on: a call that was interrupted goes on where it was; with other
settings, or after more training of the run, the task is learned again.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metarl import config
from metarl.baselines.setup import Setup, points
from metarl.builders import make_vector_env
from metarl.errors import RunFailed, UserError
from metarl.experiment import Environment
from metarl.files import parse_json, write_atomically
from metarl.inner.sb3 import SB3PPO
from metarl.parameters import expand
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.sampling.rollout import rollout
from metarl.seeding import Purpose, stream
from metarl.statistics import plain
from metarl.threads import set_threads
from metarl.types import Params

FOLDER = "baselines"
GAE_LAMBDA = 0.95
"""Of PPO, as Stable-Baselines3 has it."""
LARGEST = 64
"""Steps in a minibatch, where that divides a rollout: Stable-Baselines3's default."""


@dataclass(frozen=True)
class PPOResult:
    """What PPO reached on one task."""

    returns: NDArray[np.floating]
    """(P,): mean return of the E test episodes at each test point; NaN where all of them diverged."""
    metrics: Sequence[tuple[int, dict[str, float | None]]]
    """Environment steps on the task, and Stable-Baselines3's metrics then, for each rollout."""


@dataclass(frozen=True)
class PPOJob:
    """One learner on one task: everything that the result depends on."""

    label: str
    index: int
    """Of the task among the test tasks."""
    task: Any
    env: Environment
    policy: GaussianMLP
    params: Mapping[str, NDArray[np.floating]]
    """To start from, of policy and critic: as arrays, which travel between processes as they are."""
    ppo: SB3PPO
    """Its settings; `steps` is the number of rollouts."""
    gamma: float
    episodes: int
    """E"""
    seed: int
    folder: Path
    """Where the file goes."""

    @property
    def file(self) -> Path:
        """Where the result lies, or will lie."""
        numbers = [self.index, self.gamma, GAE_LAMBDA, self.episodes, self.seed]
        settings = [repr(self.task), repr(self.policy), numbers, config.to_dict(self.env), config.to_dict(self.ppo)]
        content = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for name, p in sorted(self.params.items()):
            content.update(name.encode() + p.tobytes())
        return self.folder / f"{self.label.replace(' ', '-')}-{self.index:03d}-{content.hexdigest()[:12]}.json"

    def read(self) -> PPOResult:
        """The result of a task that is done. Errors: UserError where its file is damaged."""
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
        """Learn, test at each point, and write the file.

        Errors: RunFailed where simulations or parameters diverged.
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
            raise RunFailed(
                f"{self.label} on {self.task.label}: {error}. What is finished is kept. A smaller --learning-rate may "
                "help."
            ) from error
        env.close()
        content = {"returns": returns, "metrics": metrics}
        write_atomically(self.file, json.dumps(plain(content), allow_nan=False).encode())

    def _test(self, env: Any, params: Params, rollouts: int) -> float:
        """Mean return of E episodes on the streams of an evaluation after as many adaptation steps."""
        env.set_tasks([self.task])
        own = stream(self.seed, Purpose.EVALUATION, phase=rollouts, task=self.index)
        played = rollout(env, self.policy, expand(self.policy.acting(params), 1), [own], self.env.horizon)
        return played.returns.nanmean().item()


def minibatches(steps: int) -> int:
    """The number of minibatches of a rollout: equal ones, of at most 64 steps as in Stable-Baselines3's defaults."""
    size = max((size for size in range(2, LARGEST + 1) if steps % size == 0), default=steps)
    return steps // size


def ppo_jobs(setup: Setup, ppo: SB3PPO) -> dict[str, list[PPOJob]]:
    """Label of a learner -> what it has to do on each test task."""
    experiment = setup.run.experiment
    return {
        label: [
            PPOJob(
                label=label,
                index=index,
                task=task,
                env=experiment.env,
                policy=setup.policy,
                params={name: p.detach().numpy() for name, p in params.items()},
                ppo=ppo,
                gamma=experiment.sampling.gamma,
                episodes=setup.episodes,
                seed=setup.seed,
                folder=setup.run.folder / FOLDER,
            )
            for index, task in enumerate(setup.tasks)
        ]
        for label, params in setup.starts.items()
    }


def run_jobs(jobs: Iterable[PPOJob], workers: int, after_each: Callable[[], None] = lambda: None) -> None:
    """Learn the tasks, `workers` at a time; with one worker, in this process.

    Errors: RunFailed for the first that cannot be finished; the others that are done are kept.
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
    """Processes on one thread each, which end at once where this one is interrupted or fails."""
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _begin() -> None:
    """What a worker does first: an interrupt is for the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_threads(1)
