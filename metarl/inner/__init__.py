"""The inner loops: each adapts parameters to a task from its own episodes."""

from metarl.inner.ppo import PPO
from metarl.inner.sb3 import SB3A2C, SB3PPO
from metarl.inner.sgd import SGD

__all__ = ["PPO", "SB3A2C", "SB3PPO", "SGD"]
