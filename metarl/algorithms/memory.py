"""How much memory an iteration takes, and how much of it the graphs of derivatives may take."""

from __future__ import annotations

import itertools
from typing import Any

from metarl.inner import PPO, SGD
from metarl.policy_gradient.gaussian_mlp import GaussianMLP

KEPT_GRAPHS = 2**30
"""Bytes of graphs that stay in memory between products with the Hessian of the KL. Others are built at every product:
the same numbers, in about three times the time."""

_FLOAT = 4
"""Bytes of a number."""

_LIBRARIES = 300 * 2**20
"""What PyTorch, MuJoCo and the rest take before anything is computed."""


def curvature_graph_bytes(policy: GaussianMLP, inner_steps: int, tasks: int, steps: int) -> int:
    """What the graphs of the KL's Hessian keep in memory; an upper bound, tight to about a fifth.

    There is one graph for the gradient of each adaptation step, and one for the Fisher matrix. For each step of an
    episode, a graph keeps the activation of each hidden unit and its derivatives by the layer's input and output (the
    latter not in the first layer), and some five numbers per action; for each task, the parameters and their gradient.

    Args:
        policy: an MLP.
        inner_steps: K, the adaptation steps whose Hessians are used; 0 to first order.
        tasks: number of tasks.
        steps: number of steps of all their episodes.
    """
    parameters = sum((n + 1) * out for n, out in itertools.pairwise(policy.layer_sizes)) + policy.action_size
    per_step = 3 * sum(policy.hidden_sizes) - sum(policy.hidden_sizes[:1]) + 5 * policy.action_size
    return _FLOAT * (inner_steps + 1) * (steps * per_step + 2 * tasks * parameters)


def iteration_bytes(algorithm: Any, policy: GaussianMLP, tasks: int, episodes: int, horizon: int) -> int:
    """The estimated peak of a process that trains; see the README for measured ones.

    It is the sum of the libraries; the episodes, which are kept until the outer step is done; the features of the
    linear baseline and two copies of them, in double precision; and, for MAML-TRPO, the graphs that it keeps. Learners
    of Stable-Baselines3 take one task after the other; their episodes are not counted.
    """
    inner, steps = algorithm.inner, tasks * episodes * horizon
    batches = (inner.steps if isinstance(inner, SGD | PPO) else 0) + algorithm.uses_query
    numbers = policy.observation_size + 2 * policy.action_size + 4
    features = 2 * policy.observation_size + 4
    graphs = 0
    if algorithm.name == "maml_trpo":
        stride = 1 if inner.loss == "dice" else algorithm.curvature_stride
        inner_steps = 0 if algorithm.first_order else inner.steps
        graphs = min(KEPT_GRAPHS, curvature_graph_bytes(policy, inner_steps, tasks, steps // stride))
    collected = steps * (_FLOAT * batches * numbers + 3 * 2 * _FLOAT * features) if batches else 0
    return _LIBRARIES + collected + graphs
