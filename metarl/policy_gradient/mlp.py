"""Multilayer perceptrons as functions of their parameters: one set shared by all tasks, or one per task."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from metarl.types import Params


def init_mlp(sizes: Sequence[int], rng: torch.Generator) -> Params:
    """Xavier-uniform weights `w0`, `w1`, … (in, out) and zero biases `b0`, `b1`, … (out,), for these sizes."""
    params: Params = {}
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        limit = math.sqrt(6 / (fan_in + fan_out))
        params[f"w{layer}"] = (2 * torch.rand(fan_in, fan_out, generator=rng) - 1) * limit
        params[f"b{layer}"] = torch.zeros(fan_out)
    return params


def layer_names(layer: int) -> tuple[str, str]:
    """The names of the parameters of one layer, counted from 0."""
    return f"w{layer}", f"b{layer}"


def mlp(params: Params, inputs: Tensor, layers: int, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """Outputs (M, B, out) of a multilayer perceptron.

    Args:
        params: as from `init_mlp`, shared (...) or one set per task (M, ...).
        inputs: (M, B, in).
        layers: number of layers; the last one is linear.
        activation: after each of the others.
    """
    hidden = inputs
    for layer in range(layers):
        w, b = (params[name] for name in layer_names(layer))
        hidden = torch.baddbmm(b.unsqueeze(-2), hidden, w) if w.ndim == 3 else hidden @ w + b
        if layer < layers - 1:
            hidden = activation(hidden)
    return hidden
