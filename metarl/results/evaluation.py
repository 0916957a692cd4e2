"""Table and figure of the evaluation of one run."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from metarl.errors import warns_only
from metarl.figures import adaptation
from metarl.results.records import META, Record
from metarl.sampling.protocols import family_name
from metarl.statistics import estimate

CHOSEN = {"latest": "", "best": "chosen by the tests during training: its return on their tasks is biased upwards\n"}
"""Checkpoint -> a line of the caption."""


def evaluation_table(record: Record) -> Table:
    """Mean, interquartile mean and gain after each adaptation step, with the spread over tasks."""
    title = f"{record.environment}, {len(record.tasks)} {record.split} tasks, {record.episodes} episodes a step"
    caption = (
        f"{record.checkpoint} checkpoint, iteration {record.training.iterations}\n{CHOSEN[record.checkpoint]}"
        "(tasks ±): spread over tasks, the standard deviation of their returns; one run has no interval\n"
        "IQM: interquartile mean, gain: paired by task\n"
        "stochastic: the policy explores, as in training\n"
        "deterministic: after the same adaptation, it takes the mean action"
        + f"\n{record.noise_in_words}" * bool(record.noise_in_words)
        + "".join(f"\n{name}: {tuned.in_words}, {tuned.how}" for name, tuned in record.tuned.items())
    )
    width = max(map(len, [title, *caption.splitlines()]))
    table = Table(title=escape(title), caption=caption, box=None, padding=(0, 2, 0, 0), pad_edge=False, min_width=width)
    for column in ("after steps", "mean return", "IQM of return", "gain"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, rows in record.summary.items():
        policies = {"stochastic": rows, "deterministic": [row["deterministic"] for row in rows]}
        for policy, own in policies.items():
            table.add_row(f"[bold]{escape(name)}", policy)
            for k, row in enumerate(own):
                table.add_row(str(k), str(row["mean"]), str(row["iqm"]), str(row["gain"]) if k else "")
    return table


def draw_evaluation(record: Record, path: Path) -> None:
    """Draw the adaptation curve of the stochastic policy, and its return on each task, as one PNG.

    A failure is a warning.
    """
    with warns_only(f"no picture {path}"):
        _draw(record, path)


def _draw(record: Record, path: Path) -> None:
    curves = {name: [estimate(x[:, k]) for k in range(x.shape[1])] for name, x in record.returns.items()}
    meta = record.returns[META]
    returns = adaptation.TaskReturns(meta[:, 0], meta[:, -1], *record.parameter())
    title = f"{family_name(record.environment)}: adaptation to {len(record.tasks)} {record.split} tasks"
    adaptation.evaluation_figure(path, curves, returns, title)
