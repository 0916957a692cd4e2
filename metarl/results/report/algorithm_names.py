"""Names of algorithms and of their main settings, as papers have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metarl import config
from metarl.config.settings import NAME
from metarl.experiment import Experiment
from metarl.results.report.formatting import format_noun

ALGORITHMS = {
    "maml_trpo": "MAML-TRPO",
    "maml_ppo": "MAML-PPO",
    "maml_sgd": "MAML",
    "promp": "ProMP",
    "reptile": "Reptile",
}
INNER_LOOPS = {
    "sgd": "SGD",
    "ppo": "PPO",
    "sb3_ppo": "Stable-Baselines3's PPO",
    "sb3_a2c": "Stable-Baselines3's A2C",
}
"""Others keep their name in configs."""
MAIN_SETTINGS = {
    "max_kl": "KL at most",
    "step_size": "step size",
    "learning_rate": "learning rate",
    "epochs": "epochs",
    "kl_penalty": "KL penalty",
}


def algorithm_name(experiment: Experiment) -> str:
    """The algorithm's name in papers, such as MAML-TRPO."""
    name = ALGORITHMS.get(experiment.algorithm.name, experiment.algorithm.name)
    return f"first-order {name}" if getattr(experiment.algorithm, "first_order", False) else name


def algorithm_settings(experiment: Experiment) -> str:
    """The main settings of the inner loop and the outer step, in one line."""
    outer = config.to_dict(experiment)["algorithm"]
    inner = outer["inner"]
    steps = f"{format_noun(inner['steps'], 'inner step')} of {INNER_LOOPS.get(inner[NAME], inner[NAME])}"
    both = ", ".join([steps, *_main(inner)])
    return f"{both}; outer step: {', '.join(_main(outer))}" if _main(outer) else both


def _main(settings: Mapping[str, Any]) -> list[str]:
    return [f"{words} {settings[name]:g}" for name, words in MAIN_SETTINGS.items() if name in settings]
