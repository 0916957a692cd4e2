"""What robots that move in the vertical plane share: qpos starts with x, height and pitch of the torso."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.family import Arrow, State, Text

_GREEN = (0.1, 0.7, 0.2, 1.0)
_LINE = 0.16  # [m] between lines of text


def measure(before: State, after: State, dt: float) -> dict[str, np.ndarray]:
    """`x_position` after the action [m] and mean `x_velocity` during it [m/s], each (…,)."""
    x = after.qpos[..., 0]
    return {"x_position": x, "x_velocity": (x - before.qpos[..., 0]) / dt}


def observe_clipped(state: State) -> np.ndarray:
    """All positions but x, then all velocities cut off at ±10, (…, nq - 1 + nv)."""
    return np.concatenate([state.qpos[..., 1:], state.qvel.clip(-10.0, 10.0)], axis=-1)


def arrow_above(state: State, height: float, length: float, label: str) -> Arrow:
    """An arrow of signed length [m] along x that starts at x of the torso and the given height [m]."""
    x = float(state.qpos[0])
    return Arrow((x, 0.0, height), (x + length, 0.0, height), radius=0.05, rgba=_GREEN, label=label)


def text_beside(state: State, ahead: float, height: float, lines: Sequence[str]) -> list[Text]:
    """Lines of text that start so far ahead of the torso [m], the last at the given height [m]."""
    x = float(state.qpos[0]) + ahead
    return [Text((x, 0.0, height + _LINE * k), line) for k, line in enumerate(reversed(lines))]
