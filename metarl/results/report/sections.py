"""The values that fill the template of each section, templates/SECTION.html."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from metarl import config, runs
from metarl.config.settings import NAME
from metarl.experiment import Experiment
from metarl.figures import adaptation as figures
from metarl.figures.style import svg
from metarl.results import records
from metarl.results.baseline_record import BaselineRecord
from metarl.results.evaluation import CHOSEN
from metarl.results.records import META, RANDOM, Record
from metarl.results.report.formatting import format_count, format_estimate, format_noun, format_number
from metarl.results.report.run_data import RunData
from metarl.results.report.svg import embed
from metarl.results.report.videos import Videos
from metarl.runs import console
from metarl.runs.publish import draw_learning, learning
from metarl.statistics import Estimate, estimate

LINE = 80
"""Characters of a command that are shown in one line."""
Values = dict[str, Any]


def summary(run: RunData) -> Values:
    """Return before and after adaptation, gain, and difference to a random initialization."""
    record = run.record
    if record is None:
        return {"command": in_two_lines(records.command(run.folder, run.experiment.evaluation.reported))}
    meta, random = record.returns[META], record.returns[RANDOM]
    ahead = estimate(meta[:, -1] - random[:, -1])
    after = f"after {format_noun(record.steps, 'step')}"
    tiles = [
        (title, estimate(x), [RANDOM, format_estimate(estimate(y))])
        for title, x, y in (
            ("Before adaptation", meta[:, 0], random[:, 0]),
            (after.capitalize(), meta[:, -1], random[:, -1]),
            ("Gain", meta[:, -1] - meta[:, 0], random[:, -1] - random[:, 0]),
        )
    ]
    return {
        "tiles": [*tiles, (f"Ahead of {RANDOM}", ahead, [f"{after},", "paired by task"])],
        "trained_steps": _trained_steps(run, record),
        "command": in_two_lines(records.command(run.folder, record.split, record)) if run.outdated else "",
    }


def _trained_steps(run: RunData, record: Record) -> int:
    """Number of adaptation steps in training, if the evaluation has further steps of another size; else 0."""
    inner = run.experiment.algorithm.inner
    trained = max(inner.steps, 1)
    alike = record.steps <= trained or record.later_steps == 1 or not inner.scalable
    return 0 if alike or record.tuned else trained


def learning_curve(run: RunData) -> Values:
    """Return on training tasks before and after adaptation, and in the tests during training."""
    learned, test = learning(run.experiment, run.folder), run.experiment.evaluation
    if learned is None:
        return {}
    first, last = (format_estimate(learned.tested[i]) for i in (0, -1))
    clock = dict(learned.clock.T.tolist())
    alt = (
        f"Return against environment steps. In the last iteration {format_number(learned.before[-1])} before "
        f"adaptation and {format_number(learned.after[-1])} after it; in the first test {first}, in the last {last}."
    )
    return {
        "drawing": embed(svg(draw_learning, run.experiment, learned, ""), "learning", alt),
        "test": test,
        "after": f"after {format_noun(test.steps, 'step')}",
        "timed": bool(clock),
        "tested": [
            (steps, clock.get(steps, float("nan")), found)
            for steps, found in zip(learned.tested_at.tolist(), learned.tested, strict=True)
        ],
    }


def adaptation(run: RunData, record: Record) -> Values:
    """Return of both policies after each adaptation step, from the meta-learned and a random initialization."""
    stochastic = record.summary
    deterministic = {name: [row["deterministic"] for row in rows] for name, rows in stochastic.items()}
    policies = {"stochastic": stochastic, "deterministic": deterministic}
    return {
        "policies": {policy: (_adaptation_curve(policy, rows), rows) for policy, rows in policies.items()},
        "others": [
            (name, other, _before_after_gain(other), _otherwise(record, other)) for name, other in run.others.items()
        ],
        "chosen": CHOSEN["best"].strip(),
    }


def _otherwise(record: Record, other: Record) -> str:
    """How another evaluation was made, and in what it differs from the record, apart from its split and checkpoint."""
    differs = {
        format_noun(len(other.tasks), "task"): True,
        format_noun(other.steps, "step"): True,
        format_noun(other.episodes, "episode"): record.episodes != other.episodes,
        f"step size chosen on {other.tuned_on}": other.tuned_on and record.tuned_on != other.tuned_on,
        "step size of the run": record.tuned and not other.tuned,
        f"later steps times {other.later_steps:g}": not other.tuned and record.later_steps != other.later_steps,
        f"seed {other.seed}": record.seed != other.seed,
    }
    return ", ".join(words for words, so in differs.items() if so)


def _before_after_gain(record: Record) -> list[Estimate]:
    x = record.returns[META]
    return [estimate(x[:, 0]), estimate(x[:, -1]), estimate(x[:, -1] - x[:, 0])]


def _adaptation_curve(policy: str, summary: dict[str, list[dict[str, Any]]]) -> Markup:
    """The figure of one policy. summary: initialization -> a row for each step."""
    curves = {name: [row["mean"] for row in rows] for name, rows in summary.items()}
    ends = [f"{name} from {format_estimate(c[0])} to {format_estimate(c[-1])}" for name, c in curves.items()]
    alt = f"Return of the {policy} policy against gradient steps: {'; '.join(ends)}."
    return embed(svg(figures.adaptation_curve, curves, ""), policy, alt)


def tasks(record: Record, tasks: Sequence[Any]) -> Values:
    """Return on each task before and after adaptation."""
    before, after = record.returns[META][:, 0], record.returns[META][:, -1]
    better = f"{int((after > before).sum())} of {len(after)}"
    drawn = svg(figures.return_per_task, figures.TaskReturns(before, after, *record.parameter()), "")
    alt = f"Return on each task before and after adaptation; after it, it is higher on {better}."
    rows = zip(tasks, before, after, strict=True)
    return {
        "drawing": embed(drawn, "tasks", alt),
        "better": better,
        "rows": [(task.label, b, a, a - b) for task, b, a in rows],
    }


def videos(record: Record, tasks: Sequence[Any], videos: Videos) -> Values:
    """Videos of the easiest, the median and the hardest task."""
    shown = [(video, tasks[video.task].label, record.returns[META][video.task]) for video in videos.videos]
    return {"videos": shown, "missing": videos.missing}


def baselines(record: BaselineRecord, trained: int) -> Values:
    """The run and its baselines on the same tasks. trained: environment steps of the run's training."""
    drawing = None
    if record.curves:
        ends = [
            f"{label} {format_number(c[-1].value)} at {format_count(at[-1])}"
            for label, (at, c) in record.curves.items()
        ]
        drawn = svg(figures.sample_efficiency, record.curves, "", "environment steps", record.overtaking)
        drawing = embed(drawn, "baselines", f"Return against environment steps of each method: {'; '.join(ends)}.")
    columns = [*dict.fromkeys(name for row in record.table for name in row)]
    return {
        "baselines": record,
        "drawing": drawing,
        "columns": [name.replace("_", " ") for name in columns[1:]],
        "rows": [[row.get(name) for name in columns] for row in record.table],
        "trained": trained,
    }


def settings(run: RunData) -> Values:
    """The settings that differ from the defaults."""
    return {"differences": differences(run.experiment)}


def differences(experiment: Experiment) -> dict[str, tuple[Any, Any]]:
    """Key -> default and value in the run. The defaults are those of the run's algorithm and inner loop."""
    usual, own = (config.to_dict(each)["algorithm"] for each in (Experiment(), experiment))
    kinds, usual_kinds = ({NAME: each[NAME], "inner": {NAME: each["inner"][NAME]}} for each in (own, usual))
    defaults = config.from_dict({"algorithm": kinds}, Experiment)
    return config.difference({"algorithm": usual_kinds}, {"algorithm": kinds}) | config.difference(defaults, experiment)


def reproduce(run: RunData) -> Values:
    """The commands that lead to this page, and the versions of training and evaluation."""
    commit, again = run.versions.get("git", ""), f"{run.folder}-again"
    lines = [shlex.join(["git", "checkout", commit.removesuffix("+")])] if commit else []
    lines.append(console.command("train", run.folder / runs.CONFIG, "--run-dir", again))
    if run.record:
        lines.append(records.command(again, run.record.split, run.record))
    lines.append(console.command("report", again))
    evaluated = run.record.versions if run.record else {}
    sources = {"training": run.versions, "evaluation": evaluated}
    if evaluated == run.versions:
        sources = {"training and evaluation": evaluated}
    elif not evaluated:
        del sources["evaluation"]
    names = dict.fromkeys(name for source in sources.values() for name in source)
    return {
        "commands": "\n".join(map(in_two_lines, lines)),
        "edited": commit.endswith("+"),
        "sources": [*sources],
        "versions": [[name, *(source.get(name, "") for source in sources.values())] for name in names],
    }


def in_two_lines(command: str) -> str:
    """A command line for the shell; a long one continues in a second line, from its first flag on."""
    parts = shlex.split(command)
    at = next((i for i, part in enumerate(parts) if part.startswith("--")), 0)
    if len(command) <= LINE or not at:
        return command
    return f"{shlex.join(parts[:at])} \\\n    {shlex.join(parts[at:])}"
