"""Functions for robots whose qpos starts with the position x of the torso."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .family import State, Text

_LINE = 0.16  # [m] between lines of text


def measure(before: State, after: State, dt: float) -> dict[str, np.ndarray]:
    """`x_position` after the action [m] and mean `x_velocity` during it [m/s], each (…,)."""
    x = after.qpos[..., 0]
    return {"x_position": x, "x_velocity": (x - before.qpos[..., 0]) / dt}


def observe_clipped(state: State) -> np.ndarray:
    """All positions but x, then all velocities clipped to ±10, (…, nq - 1 + nv)."""
    return np.concatenate([state.qpos[..., 1:], state.qvel.clip(-10.0, 10.0)], axis=-1)


def text_beside(state: State, ahead: float, height: float, lines: Sequence[str]) -> list[Text]:
    """Lines of text that start `ahead` [m] in front of the torso, the last line at `height` [m]."""
    x = float(state.qpos[0]) + ahead
    return [Text((x, 0.0, height + _LINE * k), line) for k, line in enumerate(reversed(lines))]
