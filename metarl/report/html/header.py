"""The head of the page: what was trained, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl import config
from metarl.config.settings import NAME
from metarl.experiment import Experiment
from metarl.report import records
from metarl.report.html.formatting import counted, grouped, mean, parts
from metarl.report.html.markup import Html, commands, element, join
from metarl.report.html.run_data import RunData
from metarl.report.records import META, RANDOM, Record
from metarl.statistics import estimate

ALGORITHMS = {
    "maml_trpo": "MAML-TRPO",
    "maml_ppo": "MAML-PPO",
    "maml_sgd": "MAML",
    "promp": "ProMP",
    "reptile": "Reptile",
}
LEARNERS = {
    "sgd": "SGD",
    "ppo": "PPO",
    "sb3_ppo": "Stable-Baselines3's PPO",
    "sb3_a2c": "Stable-Baselines3's A2C",
}
"""The inner loops. What is not listed here goes by the name it has in a config."""
MAIN_SETTINGS = {
    "max_kl": "KL at most",
    "step_size": "step size",
    "learning_rate": "learning rate",
    "epochs": "epochs",
    "kl_penalty": "KL penalty",
}
"""What is told of an algorithm and of an inner loop in one sentence, where they have it."""


def header(story: RunData, aim: str) -> Html:
    """What was trained, in one sentence; `aim` says in words what the robot has to do, or is empty."""
    state, experiment, finished = story.state, story.experiment, story.finished
    date = element("time", f"{finished.day} {finished:%B %Y}", datetime=f"{finished:%Y-%m-%dT%H:%MZ}")
    sentence = join(
        [
            "A policy for ",
            element("strong", story.family),
            f" ({aim})" if aim else "",
            " was meta-trained by ",
            element("strong", algorithm_name(experiment)),
            f" ({algorithm_settings(experiment)}) for {grouped(state.environment_steps)} environment steps in ",
            f"{counted(state.iteration, 'iteration')}, with seed {experiment.seed}, until ",
            date,
            ".",
        ]
    )
    return element("header", element("h1", story.name), element("p", sentence, class_="lead"))


def algorithm_name(experiment: Experiment) -> str:
    """The algorithm as papers call it."""
    name = ALGORITHMS.get(experiment.algorithm.name, experiment.algorithm.name)
    return f"first-order {name}" if getattr(experiment.algorithm, "first_order", False) else name


def algorithm_settings(experiment: Experiment) -> str:
    """The main settings of both loops in a few words."""
    outer = config.to_dict(experiment)["algorithm"]
    inner = outer["inner"]
    steps = f"{counted(inner['steps'], 'inner step')} of {LEARNERS.get(inner[NAME], inner[NAME])}"
    told = ", ".join([steps, *_main(inner)])
    return f"{told}; outer step: {', '.join(_main(outer))}" if _main(outer) else told


def _main(settings: Mapping[str, Any]) -> list[str]:
    return [f"{words} {settings[name]:g}" for name, words in MAIN_SETTINGS.items() if name in settings]


def headline(story: RunData) -> Html:
    """Return before and after adaptation, the gain, and how far ahead of a random initialization that is."""
    record = story.record
    if record is None:
        missing = "This run has no evaluation yet. To measure how it adapts to tasks that it never trained on:"
        how = commands([records.command(story.folder, story.experiment.evaluation.split)])
        return element("div", element("p", missing), how, class_="notice")
    tasks, episodes = counted(len(record.tasks), f"{record.split} task"), counted(record.episodes, "episode")
    what = f"Mean return of the stochastic policy on {tasks}, {episodes} each"
    told = f"{what}, and in brackets its 95% bootstrap interval over tasks."
    note = element("p", told, _later_steps(story, record), class_="note")
    return join([_outdated(story, record), element("div", *_tiles(record), class_="tiles"), note])


def _tiles(record: Record) -> list[Html]:
    after = f"after {counted(record.steps, 'step')}"
    meta, random = record.returns[META], record.returns[RANDOM]
    columns = {
        "Before adaptation": lambda x: x[:, 0],
        after.capitalize(): lambda x: x[:, -1],
        "Gain": lambda x: x[:, -1] - x[:, 0],
    }
    compared = [_tile(title, of(meta), RANDOM, mean(of(random))) for title, of in columns.items()]
    return [*compared, _tile(f"Ahead of {RANDOM}", meta[:, -1] - random[:, -1], f"{after},", "paired by task")]


def _tile(title: str, x: NDArray[np.floating], *beneath: str) -> Html:
    """The mean of one number per task, large, with its interval; each text beneath it stays in one piece."""
    value, interval = parts(estimate(x))
    return element(
        "div",
        element("div", title, class_="title"),
        element("b", value),
        element("div", interval, class_="interval"),
        element("div", join([element("span", text) for text in beneath], " "), class_="beneath"),
        class_="tile",
    )


def _later_steps(story: RunData, record: Record) -> str:
    """A sentence on steps beyond those that were trained; empty if there are none."""
    inner = story.experiment.algorithm.inner
    trained = max(inner.steps, 1)
    if record.steps <= trained or record.later_steps == 1 or not inner.scalable:
        return ""
    first = "the one" if trained == 1 else f"the {trained}"
    return f" Steps beyond {first} that training takes have {record.later_steps:g} times its step size."


def _outdated(story: RunData, record: Record) -> Html:
    """A warning if the run was trained further since it was evaluated."""
    if not story.outdated:
        return Html()
    then, now = record.training.iterations, story.state.iteration
    sentence = f"The evaluation is of iteration {then}, and the run is at iteration {now} by now. To evaluate it again:"
    again = records.command(story.folder, record.split, record)
    return element("div", element("p", sentence), commands([again]), class_="notice")
