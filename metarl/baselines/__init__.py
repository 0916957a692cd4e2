"""Other learners on the tasks that a run is tested on, at equal environment steps.

| learner | starts from | learns on a new task by |
|---|---|---|
| meta-learned | θ of the run | the run's own adaptation |
| random init | the run's random initialization | the same |
| PPO from scratch | the run's random initialization | Stable-Baselines3's PPO |
| PPO from meta-learned | θ of the run | the same |
| PPO from pretrained | one policy trained on all tasks, without adaptation | the same |
| oracle | one policy trained on all tasks that sees the goal | nothing: it knows it |

One rollout of PPO is E episodes of T steps: the data of one adaptation step. After 0, 1, 2, 3, 5, 10, … of them the
policy as it stands plays E fresh episodes, which are not counted, from the initial states that all learners have.
Where robots fall, PPO begins anew and takes all E T steps; adaptation takes fewer, and is counted as if it took all.
"""

from metarl.baselines.ppo_job import PPOJob, PPOResult, minibatches, ppo_jobs, run_jobs
from metarl.baselines.sample_efficiency import SampleEfficiency, gather, mean_metrics
from metarl.baselines.setup import Setup, advice, points, prepare

__all__ = [
    "PPOJob",
    "PPOResult",
    "SampleEfficiency",
    "Setup",
    "advice",
    "gather",
    "mean_metrics",
    "minibatches",
    "points",
    "ppo_jobs",
    "prepare",
    "run_jobs",
]
