"""Memory of rollouts and parameters, to refuse settings that need too much before they run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from metarl.errors import UserError
from metarl.system.machine import available_memory

SIMULATION = 3 * 1024
"""Bytes of one simulation, at least: the smallest family takes 4 KiB."""


def rollout_bytes(simulations: int, horizon: int, observation_size: int, action_size: int) -> int:
    """Least memory [bytes] of one rollout and its advantages.

    For each step: what the rollout keeps of it and its noise in float32, and the value function's features of the
    observation, twice, in float64. Measured peaks are 1.0 to 1.6 times this.
    """
    recorded = 4 * observation_size + 20 * action_size + 24
    features = 2 * 8 * (2 * observation_size + 4)
    return simulations * (SIMULATION + horizon * (recorded + features))


def parameter_bytes(layer_sizes: Sequence[int]) -> int:
    """Memory [bytes] of one set of parameters of an MLP in float32."""
    return 4 * sum((inputs + 1) * outputs for inputs, outputs in pairwise(layer_sizes))


def require_memory(needed: int, what: str, way_out: str) -> None:
    """Raise UserError if `what` needs more bytes than this process can get, as far as that is known."""
    available = available_memory()
    if available is not None and needed > available:
        there, wanted = _gigabytes(available), _gigabytes(needed)
        raise UserError(f"{what} take at least {wanted} of memory, and {there} are available: {way_out}")


def _gigabytes(count: int) -> str:
    size = count / 1e9
    return f"{size:.1f} GB" if size < 100 else f"{size:,.0f} GB" if size < 1e7 else f"{size:.1e} GB"
