"""How much memory the graphs of derivatives take, and how much they may take."""

from __future__ import annotations

import itertools

from metarl.policy_gradient.gaussian_mlp import GaussianMLP

KEPT_GRAPHS = 2**30
"""Bytes of graphs that stay in memory between products with the Hessian of the KL. Others are built at every product:
the same numbers, in about three times the time."""

_FLOAT = 4
"""Bytes of a number."""


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
