"""What was measured: learning, adaptation, tasks, films, other learners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.figures import adaptation as figures
from metarl.figures.style import svg
from metarl.report.html.formatting import counted, grouped, mean, number, told, written
from metarl.report.html.markup import Html, body, element, figure, join, section, table, video
from metarl.report.html.run_data import Baselines, RunData
from metarl.report.html.videos import Film, Films
from metarl.report.records import META, Record
from metarl.report.table import CHOSEN, curve
from metarl.runs.publish import draw_learning, learning
from metarl.statistics import Estimate


def learning_section(story: RunData) -> Html:
    """Training before and after adaptation, and the repeated test."""
    learned, test = learning(story.experiment, story.folder), story.experiment.evaluation
    if learned is None:
        return section("learning", "Learning", element("p", "No iteration has been logged yet.", class_="notice"))
    low, value, high = learned.tested.low, learned.tested.mean, learned.tested.high
    tested = [told(Estimate(*row)) for row in zip(value, low, high, strict=True)]
    after = f"after {counted(test.steps, 'step')}"
    alt = (
        f"Return against environment steps. In the last iteration {number(learned.before[-1])} before adaptation and "
        f"{number(learned.after[-1])} after it; in the first test {tested[0]}, in the last {tested[-1]}."
    )
    caption = (
        f"Mean return on each iteration's training tasks before and after adaptation, and on the fixed {test.split} "
        f"tasks {after}, tested every {counted(test.every, 'iteration')}."
    )
    if not story.experiment.algorithm.uses_query:
        caption += " Training has no episodes after its last adaptation step: there, 'after' is before that step."
    drawn = figure(svg(draw_learning, story.experiment, learned, ""), "learning", alt, caption)
    rows = zip(map(grouped, learned.tested_at), tested, strict=True)
    listed = table("The repeated test", ("environment steps", f"return {after}"), body(rows))
    return section("learning", "Learning", element("div", drawn, listed, class_="pair"))


def adaptation_section(story: RunData, record: Record) -> Html:
    """Return after each adaptation step, from the learned and from a random initialization, of both policies."""
    stochastic = record.summary
    deterministic = {name: [row["deterministic"] for row in rows] for name, rows in stochastic.items()}
    explores = _adaptation("stochastic", stochastic, "the policy explores, as in training.")
    exploits = _adaptation("deterministic", deterministic, "after the same adaptation, the policy acts by its mean.")
    shown = element("div", explores, exploits, class_="pair")
    words = "Gains are paired by task. The interquartile mean is that of the middle half of the tasks."
    return section("adaptation", "Adaptation", shown, element("p", words, class_="note"), _others(story.others))


def _adaptation(policy: str, summary: Mapping[str, Sequence[Mapping[str, Any]]], about: str) -> Html:
    """The curves of one of the two policies above their numbers; `summary`: initialization -> row after each step."""
    curves = {name: curve([row["mean"] for row in rows]) for name, rows in summary.items()}
    ends = [f"{name} from {told(rows[0]['mean'])} to {told(rows[-1]['mean'])}" for name, rows in summary.items()]
    alt = f"Return of the {policy} policy against gradient steps: {'; '.join(ends)}."
    drawn = figure(svg(figures.adaptation_curve, curves, ""), policy, alt, f"{policy.capitalize()}: {about}")
    bodies = [body(map(_numbers, range(len(rows)), rows), heading=name) for name, rows in summary.items()]
    columns = ("steps", "mean return", "gain", "interquartile mean")
    return element("div", drawn, table(f"Return of the {policy} policy after each adaptation step", columns, *bodies))


def _numbers(k: int, row: Mapping[str, Any]) -> list[object]:
    """The cells of the table after k steps; without one there is no gain."""
    return [k, told(row["mean"]), told(row["gain"]) if k else "", told(row["iqm"])]


def _others(others: Mapping[str, Record]) -> Html:
    """Before, after and gain of evaluations beside the main one."""
    if not others:
        return Html()
    rows = [
        [name, len(x), other.steps, *map(mean, (x[:, 0], x[:, -1], x[:, -1] - x[:, 0]))]
        for name, other in others.items()
        for x in [other.returns[META]]
    ]
    columns = ("", "tasks", "steps", "before", "after", "gain")
    best = any(other.checkpoint == "best" for other in others.values())
    note = element("p", f"The best checkpoint was {CHOSEN['best'].strip()}.", class_="note") if best else ""
    return join([element("h3", "Other evaluations"), table("Other evaluations", columns, body(rows)), note])


def tasks_section(record: Record, tasks: Sequence[Any]) -> Html:
    """Return on each task before and after adaptation."""
    x = record.returns[META]
    before, after = x[:, 0], x[:, -1]
    better = f"{int((after > before).sum())} of {len(x)}"
    drawn = figure(
        svg(figures.return_per_task, figures.TaskReturns(before, after, *record.parameter()), ""),
        "tasks",
        f"Return on each task before and after adaptation; after it, it is higher on {better}.",
        f"Each task before adaptation and after {counted(record.steps, 'step')}: {better} are better after it.",
    )
    rows = [[task.label, number(b), number(a), number(a - b)] for task, b, a in zip(tasks, before, after, strict=True)]
    listed = table("Return on each task", ("task", "before", "after", "gain"), body(rows))
    return section("tasks", "Return per task", element("div", drawn, listed, class_="pair"))


def films_section(record: Record, tasks: Sequence[Any], films: Films) -> Html:
    """An easy, the median and the hardest task, filmed."""
    about = (
        "The tasks with the highest, the middle and the lowest return after adaptation: one episode before it on the "
        f"left and one after {counted(record.steps, 'step')} on the right, from the same start with the same noise, "
        "in real time. The policy adapted again as in the evaluation, with its seed and on all of its tasks."
    )
    shown = [_film(film, tasks[film.task].label, record.returns[META][film.task]) for film in films.films]
    note = element("p", about, class_="note") if shown else ""
    missing = element("p", films.missing, class_="notice") if films.missing else ""
    return section("films", "Before and after", note, *shown, missing)


def _film(film: Film, task: str, x: NDArray[np.floating]) -> Html:
    """One film beside what it is; `x` (K+1,) is the task's return after each step."""
    text = element(
        "div",
        element("h3", film.level.capitalize()),
        element("p", task),
        element("p", number(x[0]), " → ", element("b", number(x[-1])), class_="arrow"),
        element("p", "mean return of all its episodes", class_="note"),
    )
    seen = f"The {film.level} task, {task}: before adaptation on the left, after it on the right."
    return element("div", text, video(film.mp4, film.poster, film.size, seen), class_="film")


def baselines_section(baselines: Baselines, trained: int) -> Html:
    """Other learners on the same tasks; `trained`: environment steps of the run's training by now."""
    shown, notice = [], Html()
    if baselines.trained not in (None, trained):
        then = f"The run was compared with them after {grouped(baselines.trained)} environment steps of training"
        notice = element("p", f"{then}, and has taken {grouped(trained)} by now.", class_="notice")
    if baselines.curves:
        ends = [f"{label} {number(c.mean[-1])} at {grouped(at[-1])}" for label, (at, c) in baselines.curves.items()]
        alt = f"Return against environment steps of each learner: {'; '.join(ends)}."
        drawn = svg(figures.learners, baselines.curves, "")
        shown.append(figure(drawn, "baselines", alt, "Return on the test tasks against the steps taken on each."))
    if baselines.table:
        names = list(dict.fromkeys(name for row in baselines.table for name in row))
        rows = [[_cell(row.get(name)) for name in names] for row in baselines.table]
        columns = ["", *(name.replace("_", " ") for name in names[1:])]
        shown.append(table("Other learners", columns, body(rows)))
    notes = [element("p", written(remark), class_="note") for remark in baselines.remarks]
    return section("baselines", "Other learners", notice, element("div", *shown, class_="pair"), *notes)


def _cell(value: Any) -> str:
    """A value that another script wrote."""
    if value is None:
        return "not reached"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return grouped(value) if float(value).is_integer() else number(value)
    return str(value)
