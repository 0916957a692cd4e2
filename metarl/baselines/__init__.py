"""Baselines: what a run is compared with, on the same test tasks at equal environment steps.

| method | starts from | learns on a new task by |
|---|---|---|
| meta-learned | θ of the run | the run's own adaptation |
| pretrained | one policy trained on all tasks, without adaptation | the run's own adaptation |
| random init | the run's random initialization | the run's own adaptation |
| PPO from scratch | the run's random initialization | PPO of Stable-Baselines3 |
| PPO from meta-learned | θ of the run | PPO of Stable-Baselines3 |
| PPO from pretrained | one policy trained on all tasks, without adaptation | PPO of Stable-Baselines3 |
| RL² | a recurrent policy trained on trials of several episodes (`metarl rl2`) | its memory |
| oracle | one policy trained on all tasks that sees its task | it does not learn |

Each method has the settings that are best for it on validation tasks (`metarl.experiment.tuning`): adaptation its step
size and whole or half later steps, PPO from scratch its action scale and learning rate, and PPO from a trained policy,
whose action scale is given, its learning rate.

One rollout of PPO is E T steps, as much as the E episodes of one adaptation step. After 0, 1, 2, 3, 5, 10, … rollouts,
the current policy plays E test episodes, from initial states that are the same for all methods; their steps are not
counted. If a robot falls, PPO starts another episode and so always takes E T steps. Adaptation then takes fewer steps,
and is counted as if it took E T.
"""

from metarl.baselines.ppo_job import LEARNING_RATE, PPOJob, PPOResult, minibatches, ppo_candidates, ppo_jobs, run_jobs
from metarl.baselines.sample_efficiency import SampleEfficiency, gather, mean_metrics
from metarl.baselines.setup import Setup, advice, points, prepare

__all__ = [
    "LEARNING_RATE",
    "PPOJob",
    "PPOResult",
    "SampleEfficiency",
    "Setup",
    "advice",
    "gather",
    "mean_metrics",
    "minibatches",
    "points",
    "ppo_candidates",
    "ppo_jobs",
    "prepare",
    "run_jobs",
]
