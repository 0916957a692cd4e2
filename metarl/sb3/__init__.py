"""The bridge to Stable-Baselines3: environments and policies for it, and its algorithms as inner learners."""

from metarl.sb3.metrics import Metrics
from metarl.sb3.models import Kind, export, read, to_sb3
from metarl.sb3.task_learner import Learned, TaskLearner
from metarl.sb3.vec_env import TaskVecEnv

__all__ = ["Kind", "Learned", "Metrics", "TaskLearner", "TaskVecEnv", "export", "read", "to_sb3"]
