"""Measure speed. The machine should do nothing else meanwhile.

    metarl benchmark sampling [--json FILE]     the sampler, compared with the physics alone
    metarl benchmark iteration [--json FILE]    the parts of a MAML-TRPO iteration, compared with the physics alone
    metarl benchmark algorithms [--json FILE]   sampling, adaptation and outer step of every algorithm
    metarl benchmark envs [--json FILE]         every task family, compared with Gymnasium's vector environments
    metarl benchmark dynamics [--json FILE]     800 robots with different dynamics, compared with 800 equal ones
    metarl benchmark sb3 [--json FILE]          PPO of Stable-Baselines3 on our vector environment and on single ones

All numbers are medians over repetitions.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import gymnasium
import numpy as np
import tyro
from gymnasium.vector import AutoresetMode
from mujoco.batch import Batch
from numpy.typing import NDArray
from pydantic import Field
from rich.console import Console
from rich.table import Table
from torch import Tensor

from envs.family import Family, resolve
from envs.half_cheetah import robot
from envs.vector import RobotVectorEnv
from metarl import config
from metarl.algorithms.maml_sgd import MAMLSGD
from metarl.algorithms.maml_trpo import MAMLTRPO
from metarl.algorithms.promp import MAMLPPO, ProMP
from metarl.algorithms.reptile import Reptile
from metarl.config.settings import settings
from metarl.errors import exits_cleanly
from metarl.experiment import Environment, Experiment, Sampling
from metarl.experiment.builders import initial_params, make_policy, make_vector_env, training_tasks
from metarl.experiment.collection import collect
from metarl.inner import PPO, SGD
from metarl.parameters import expand
from metarl.policy_gradient.gaussian_mlp import GaussianMLP, to_command
from metarl.runs.directory import versions
from metarl.sampling.protocols import TaskVectorEnv
from metarl.sampling.rollout import rollout
from metarl.seeding import Purpose, streams
from metarl.system.files import write_atomically
from metarl.system.machine import available_cores
from metarl.system.threads import set_threads


@settings
class Options:
    """The command line."""

    what: tyro.conf.Positional[Literal["sampling", "iteration", "algorithms", "envs", "dynamics", "sb3"]]
    """What to measure."""
    threads: int = Field(0, ge=0, le=4096)
    """Number of threads; 0: one for each core"""
    repeats: int = Field(9, ge=1)
    """Number of repetitions"""
    json: Path | None = None
    """File for the numbers of every repetition."""


@exits_cleanly
def main(args: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the numbers."""
    arguments = config.options(Options, args, command="benchmark", description=__doc__)
    measure = MEASURES[arguments.what]
    result = measure(arguments.threads, arguments.repeats)
    if arguments.json:
        conditions = {"threads": arguments.threads or available_cores(), "versions": versions()}
        write_atomically(arguments.json, json.dumps(conditions | result, indent=1).encode())


def sampling(threads: int, repeats: int) -> dict[str, Any]:
    """The sampler and the physics alone, by turns: HalfCheetahVel, M = 40, E = 20, T = 100."""
    experiment = replace(Experiment(), threads=threads)
    settings, T = experiment.sampling, experiment.env.horizon
    M, N = settings.tasks, settings.tasks * settings.episodes
    set_threads(threads)
    env = make_vector_env(experiment.env, N, threads)
    policy = make_policy(experiment, env)
    params = expand(initial_params(policy, experiment), M)
    env.set_tasks(training_tasks(env, experiment, 0))
    seconds: dict[str, list[float]] = {"sampler": [], "physics": []}
    for i in range(repeats + 1):
        took, episodes = timed(partial(rollout, env, policy, params, streams(0, Purpose.TRAINING, i, 0, M), T))
        physics = physics_seconds(episodes.observations, episodes.actions, policy.action_scale, threads)
        if i:  # the first one warms up
            seconds["sampler"].append(took)
            seconds["physics"].append(physics)
    share = median(p / s for p, s in zip(seconds["physics"], seconds["sampler"], strict=True))
    speed = {name: N * T / median(values) for name, values in seconds.items()}
    show(
        f"HalfCheetahVel, {N} robots, {T} steps, median of {repeats}",
        ("", "environment steps / s", "of the physics"),
        [
            ("Batch.step alone, same actions", f"{speed['physics']:,.0f}", "100%"),
            ("the whole sampler", f"{speed['sampler']:,.0f}", f"{share:.1%}"),
        ],
    )
    return {"environment_steps_per_s": speed, "share_of_physics": share, "seconds": seconds}


def iteration(threads: int, repeats: int) -> dict[str, Any]:
    """A MAML-TRPO iteration and the physics of its episodes: HalfCheetahVel, M = 20, E = 20, T = 100, K = 1."""
    experiment = replace(Experiment(), threads=threads, sampling=Sampling(tasks=20))
    set_threads(threads)
    env = make_vector_env(experiment.env, 20 * experiment.sampling.episodes, threads)
    policy = make_policy(experiment, env)
    params = initial_params(policy, experiment)
    seconds: dict[str, list[float]] = {}
    for i in range(repeats + 1):
        began = time.perf_counter()
        env.set_tasks(training_tasks(env, experiment, i))
        collected = collect(env, policy, params, experiment, i)
        params, _, metrics = experiment.algorithm.update(policy, params, {}, collected.experience)
        whole = time.perf_counter() - began
        physics = sum(
            physics_seconds(batch.observations, batch.actions, policy.action_scale, threads)
            for batch in (*collected.experience.support, collected.experience.query)
        )
        parts = {**collected.seconds, **metrics, "whole iteration_s": whole, "physics alone_s": physics}
        for name, value in parts.items():
            if i and name.endswith("_s"):  # the first one warms up
                seconds.setdefault(name.removesuffix("_s"), []).append(value)
    medians = {name: median(values) for name, values in seconds.items()}
    ratio = median(w / p for w, p in zip(seconds["whole iteration"], seconds["physics alone"], strict=True))
    show(
        f"one MAML-TRPO iteration, HalfCheetahVel, M=20 E=20 T=100 K=1, median of {repeats}",
        ("", "seconds", "times the physics"),
        [
            (name.replace("_", " "), f"{value:.3f}", f"{value / medians['physics alone']:.2f}")
            for name, value in medians.items()
        ],
    )
    return {"median_seconds": medians, "times_physics": ratio, "seconds": seconds}


SGD3 = SGD(steps=3)
ALGORITHMS = {
    "maml_trpo": MAMLTRPO(),
    "maml_trpo, first order": MAMLTRPO(first_order=True),
    "maml_trpo, Meta-SGD": MAMLTRPO(inner=SGD(learned_step_sizes=True)),
    "maml_trpo, ANIL": MAMLTRPO(inner=SGD(last_layer_only=True)),
    "maml_ppo": MAMLPPO(),
    "promp": ProMP(),
    "maml_sgd": MAMLSGD(),
    "maml_sgd, first order": MAMLSGD(first_order=True),
    "reptile, 3 steps": Reptile(inner=SGD3),
    "reptile, 3 steps of ppo": Reptile(inner=PPO(steps=3)),
}


def algorithms(threads: int, repeats: int) -> dict[str, Any]:
    """An iteration of every algorithm from the same theta: HalfCheetahVel, M = 40, E = 20, T = 100."""
    experiment = replace(Experiment(), threads=threads)
    set_threads(threads)
    env = make_vector_env(experiment.env, 40 * experiment.sampling.episodes, threads)
    policy = make_policy(experiment, env)
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in ALGORITHMS}
    for i in range(repeats + 1):
        for name, algorithm in ALGORITHMS.items():
            parts = parts_of_iteration(replace(experiment, algorithm=algorithm), env, policy, i)
            for part, value in parts.items():
                if i:  # the first one warms up
                    seconds[name].setdefault(part, []).append(value)
    medians = {name: {part: median(values) for part, values in parts.items()} for name, parts in seconds.items()}
    whole = {name: sum(parts.values()) for name, parts in medians.items()}
    show(
        f"one iteration, HalfCheetahVel, M=40 E=20 T=100, median of {repeats}, seconds",
        ("", "sampling", "adaptation", "outer step", "outer / sampling", "whole / maml_trpo"),
        [
            (
                name,
                *(f"{parts[part]:.2f}" for part in ("sampling", "adaptation", "outer")),
                f"{parts['outer'] / parts['sampling']:.1%}",
                f"{whole[name] / whole['maml_trpo']:.2f}",
            )
            for name, parts in medians.items()
        ],
    )
    return {"median_seconds": medians, "seconds": seconds}


def parts_of_iteration(experiment: Experiment, env: TaskVectorEnv, policy: GaussianMLP, i: int) -> dict[str, float]:
    """Durations [s] of sampling (episodes and advantages), adaptation and outer step."""
    params = initial_params(policy, experiment)
    env.set_tasks(training_tasks(env, experiment, i))
    collected = collect(env, policy, params, experiment, i)
    outer, _ = timed(partial(experiment.algorithm.update, policy, params, {}, collected.experience))
    sampling = collected.seconds["sampling_s"] + collected.seconds["advantages_s"]
    return {"sampling": sampling, "adaptation": collected.seconds["adaptation_s"], "outer": outer}


PEERS = {
    "HalfCheetah": "HalfCheetah-v5",
    "Ant": "Ant-v5",
    "Humanoid": "Humanoid-v5",
    "Walker2d": "Walker2d-v5",
    "Hopper": "Hopper-v5",
    "Swimmer": "Swimmer-v5",
    "Reacher": "Reacher-v5",
    "Pusher": "Pusher-v5",
}
"""First part of a family's name -> Gymnasium's environment of the same robot."""

ROBOTS, PEER_ROBOTS = 400, 20
"""Number of robots in our vector environment and in Gymnasium's; each is near its highest speed."""


def families(threads: int, repeats: int) -> dict[str, Any]:
    """Environment steps per second with random actions, of every family and of the same robot in Gymnasium."""
    rows: dict[str, dict[str, float]] = {}
    peers: dict[str, dict[str, float]] = {}
    for spec in [spec for spec in gymnasium.registry.values() if spec.namespace == "metarl"]:
        rows[spec.id] = {"native": speed_of(gymnasium.make_vec(spec.id, ROBOTS, nthread=threads), repeats)}
        robot_name = next((name for name in PEERS if spec.name.startswith(name)), None)
        if robot_name and robot_name not in peers:
            peers[robot_name] = {
                kind: speed_of(gymnasium.make_vec(PEERS[robot_name], PEER_ROBOTS, vectorization_mode=kind), repeats)
                for kind in ("sync", "async")
            }
        rows[spec.id] |= peers.get(robot_name or "", {})
    columns = ("native", "sync", "async")
    show(
        f"environment steps per second, random actions, median of {repeats}",
        ("", f"ours of {ROBOTS}", f"Sync of {PEER_ROBOTS}", f"Async of {PEER_ROBOTS}"),
        [
            (name.removeprefix("metarl/"), *(f"{row[c]:,.0f}" if c in row else "" for c in columns))
            for name, row in rows.items()
        ],
    )
    return {"environment_steps_per_s": rows}


def dynamics(threads: int, repeats: int) -> dict[str, Any]:
    """Every family with hidden dynamics: 800 different robots and 800 nominal ones, by turns."""
    robots, steps, rows = 800, 20, {}
    for spec in [spec for spec in gymnasium.registry.values() if spec.namespace == "metarl"]:
        family = resolve(spec.kwargs["family"], {}, Family)
        if not family.dynamics:
            continue
        different = RobotVectorEnv(family, robots, nthread=threads)
        equal = RobotVectorEnv(replace(family, dynamics=()), robots, nthread=threads)
        actions = different.action_space.sample()
        seconds: dict[str, list[float]] = {"different": [], "equal": [], "set_tasks": []}
        for i in range(repeats + 1):
            tasks = family.task_space.sample(robots, np.random.default_rng(i))
            setting, _ = timed(partial(different.set_tasks, tasks))
            for name, env in (("different", different), ("equal", equal)):
                env.reset(seed=i)
                seconds[name].append(timed(partial(play, env, actions, steps))[0])
            seconds["set_tasks"].append(setting)
        ratio = median(e / d for d, e in zip(seconds["different"][1:], seconds["equal"][1:], strict=True))
        speed = {name: robots * steps / median(seconds[name][1:]) for name in ("different", "equal")}
        rows[spec.name] = {**speed, "ratio": ratio, "set_tasks_s": median(seconds["set_tasks"][1:])}
    show(
        f"{robots} robots, environment steps per second, median of {repeats}",
        ("", "all different", "all equal", "ratio", "set 800 tasks [ms]"),
        [
            (n, f"{r['different']:,.0f}", f"{r['equal']:,.0f}", f"{r['ratio']:.1%}", f"{1000 * r['set_tasks_s']:.0f}")
            for n, r in rows.items()
        ],
    )
    return {"dynamics": rows}


def stable_baselines(threads: int, repeats: int) -> dict[str, Any]:
    """PPO.learn() on our vector environment and on single ones: HalfCheetahVel, 100 steps per robot and rollout."""
    import stable_baselines3
    from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

    from metarl.sb3 import TaskVecEnv

    name, T = "envs:metarl/HalfCheetahVel-v0", 100
    single = partial(gymnasium.make, name, max_episode_steps=T)
    singles: list[Callable[[], gymnasium.Env]] = [single] * PEER_ROBOTS

    def ours(robots: int) -> TaskVecEnv:
        return TaskVecEnv(make_vector_env(Environment(id=name, horizon=T), robots, threads))

    kinds: dict[str, Callable[[], VecEnv]] = {
        f"our environment of {PEER_ROBOTS}": lambda: ours(PEER_ROBOTS),
        f"our environment of {ROBOTS}": lambda: ours(ROBOTS),
        f"DummyVecEnv of {PEER_ROBOTS}": lambda: DummyVecEnv(singles),
        f"SubprocVecEnv of {PEER_ROBOTS}": lambda: SubprocVecEnv(singles),
    }
    set_threads(threads)
    envs = {kind: make() for kind, make in kinds.items()}
    same: dict[str, Any] = {"n_steps": T, "batch_size": 500, "n_epochs": 10, "seed": 0, "device": "cpu"}
    models = {kind: stable_baselines3.PPO("MlpPolicy", env, **same) for kind, env in envs.items()}
    speeds: dict[str, dict[str, list[float]]] = {kind: {"learn": [], "rollouts": []} for kind in kinds}
    for i in range(repeats + 1):
        for kind, model in models.items():
            steps, at = T * model.n_envs, [time.perf_counter()]
            model.learn(steps, callback=lambda *_, at=at: at.append(time.perf_counter()) is None)  # after each step
            if i:  # the first one warms up
                speeds[kind]["learn"].append(steps / (time.perf_counter() - at[0]))
                speeds[kind]["rollouts"].append(steps / (at[-1] - at[0]))
    for env in envs.values():
        env.close()
    medians = {kind: {part: median(values) for part, values in parts.items()} for kind, parts in speeds.items()}
    slowest = min(parts["learn"] for parts in medians.values())
    show(
        f"PPO of Stable-Baselines3, HalfCheetahVel, environment steps per second, median of {repeats}",
        ("", "PPO.learn()", "times the slowest", "rollouts alone"),
        [
            (kind, f"{parts['learn']:,.0f}", f"{parts['learn'] / slowest:.2f}", f"{parts['rollouts']:,.0f}")
            for kind, parts in medians.items()
        ],
    )
    return {"environment_steps_per_s": medians, "repetitions": speeds}


def play(env: gymnasium.vector.VectorEnv, actions: NDArray[np.floating], steps: int) -> None:
    """Take `steps` steps with the same actions (N, A)."""
    for _ in range(steps):
        env.step(actions)


def speed_of(env: gymnasium.vector.VectorEnv, repeats: int) -> float:
    """Environment steps per second, the median of `repeats` periods of 0.5 s; episodes that end are reset."""
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(20)]
    resets_itself = env.metadata["autoreset_mode"] is not AutoresetMode.DISABLED
    env.reset(seed=0)
    speeds = []
    for repeat in range(repeats + 1):
        steps, began = 0, time.perf_counter()
        while time.perf_counter() - began < 0.5:
            _, _, terminated, truncated, _ = env.step(actions[steps % len(actions)])
            ended = terminated | truncated
            if ended.any() and not resets_itself:
                env.reset(options={"reset_mask": ended})
            steps += 1
        if repeat:  # the first one warms up
            speeds.append(steps * env.num_envs / (time.perf_counter() - began))
    env.close()
    return median(speeds)


MEASURES = {
    "sampling": sampling,
    "iteration": iteration,
    "algorithms": algorithms,
    "envs": families,
    "dynamics": dynamics,
    "sb3": stable_baselines,
}


def physics_seconds(observations: Tensor, actions: Tensor, action_scale: float, threads: int) -> float:
    """Time [s] that MuJoCo alone needs to repeat recorded HalfCheetah episodes.

    Args:
        observations: (M, E, T or T+1, 17). The first of each episode is its initial state without the x position.
        actions: (M, E, T, 6) policy outputs.
        action_scale: environment action per unit of policy output.
        threads: number of threads.
    """
    start = observations[:, :, 0].flatten(0, 1).double().numpy()
    controls = to_command(actions.flatten(0, 1), action_scale).transpose(0, 1).double().contiguous().numpy()
    batch = Batch(robot().load(), len(start), nthread=threads)
    qpos, qvel, ctrl = batch.bind("qpos"), batch.bind("qvel"), batch.bind("ctrl")
    qpos[:, 1:], qvel[:] = start[:, :8], start[:, 8:]
    batch.forward()

    def play() -> None:
        for control in controls:
            ctrl[:] = control
            batch.step(nstep=robot().frame_skip)

    return timed(play)[0]


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Duration [s] of a call, and its result."""
    began = time.perf_counter()
    result = function()
    return time.perf_counter() - began, result


def show(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print a table; columns with a title are aligned to the right."""
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
