"""The inner loops: each adapts parameters to a task from its own episodes, all through one interface."""

from metarl.inner.learner import Adapted, InnerLearner
from metarl.inner.ppo import PPO
from metarl.inner.sb3 import SB3A2C, SB3PPO
from metarl.inner.sgd import SGD

__all__ = ["PPO", "SB3A2C", "SB3PPO", "SGD", "Adapted", "InnerLearner"]
