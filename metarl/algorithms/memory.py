"""How much memory an iteration needs, and how much of it autograd graphs may take."""

from __future__ import annotations

from typing import Any

from metarl.inner import PPO, SGD
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.sampling.memory import parameter_bytes, rollout_bytes

KEPT_GRAPHS = 2**30
"""Bytes of autograd graphs that are kept between products with the Hessian of the KL. Further graphs are built anew for
every product, which gives the same numbers in about three times the time."""

_FLOAT = 4
"""Bytes of a float32."""

_LIBRARIES = 300 * 2**20
"""What PyTorch, MuJoCo and the rest take before anything is computed."""


def curvature_graph_bytes(policy: GaussianMLP, inner_steps: int, tasks: int, steps: int) -> int:
    """Bytes that the graphs of the KL's Hessian keep in memory: an upper bound, at most about a fifth too high.

    There is one graph for the gradient of each adaptation step, and one for the Fisher matrix. For each step of an
    episode, a graph keeps the activation of each hidden unit and its derivatives by the layer's input and output (the
    latter not in the first layer), and some five numbers per action; for each task, the parameters and their gradient.

    Args:
        policy: an MLP.
        inner_steps: K, the adaptation steps whose Hessians are used; 0 to first order.
        tasks: number of tasks.
        steps: number of steps of all their episodes.
    """
    parameters = parameter_bytes(policy.layer_sizes) + _FLOAT * policy.action_size
    per_step = 3 * sum(policy.hidden_sizes) - sum(policy.hidden_sizes[:1]) + 5 * policy.action_size
    return (inner_steps + 1) * (_FLOAT * steps * per_step + 2 * tasks * parameters)


def iteration_bytes(algorithm: Any, policy: GaussianMLP, tasks: int, episodes: int, horizon: int) -> int:
    """The expected peak memory of a process that trains; README.md has measured ones.

    It is the sum of the libraries; one rollout and its advantages; the batches of the other rollouts, which are kept
    until the outer step; and, for MAML-TRPO, the graphs that it keeps. Inner loops of Stable-Baselines3 take one task
    after the other; their rollouts are not counted.
    """
    inner, steps = algorithm.inner, tasks * episodes * horizon
    rollouts = (inner.steps if isinstance(inner, SGD | PPO) else 0) + algorithm.uses_query
    needed = _LIBRARIES
    if rollouts:
        once = rollout_bytes(tasks * episodes, horizon, policy.observation_size, policy.action_size)
        kept = _FLOAT * steps * (policy.observation_size + 2 * policy.action_size + 4)
        needed += round(1.25 * once) + (rollouts - 1) * kept
    if algorithm.name == "maml_trpo":
        stride = 1 if inner.loss == "dice" else algorithm.curvature_stride
        inner_steps = 0 if algorithm.first_order else inner.steps
        needed += min(KEPT_GRAPHS, curvature_graph_bytes(policy, inner_steps, tasks, steps // stride))
    return needed
