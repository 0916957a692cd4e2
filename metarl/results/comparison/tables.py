"""The table of a comparison for the terminal, and its numbers as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from metarl.results import records
from metarl.results.comparison.entries import Entry
from metarl.results.records import META
from metarl.sampling.protocols import family_name
from metarl.statistics import Estimate, plain, probability_of_improvement

FORMAT, VERSION = "metarl-comparison", 1
WIDTH = 100
"""Characters in a line of the table, if the labels are short enough."""


def summary(entry: Entry, reference: Entry) -> list[dict[str, Any]]:
    """`records.summaries` of an entry, with its probability of improvement over `reference` after each step."""
    rows = records.summaries(entry.returns, entry.deterministic)
    for k, row in enumerate(rows):
        pair = entry.returns[..., k], reference.returns[..., k]
        row["probability_of_improvement"] = None if entry is reference else probability_of_improvement(*pair)
    return rows


def table(entries: Sequence[Entry]) -> Group:
    """A row for each entry: mean return after 0..K steps, then further statistics of the return after K steps.

    Intervals are beside their values, or below them where lines would be longer than WIDTH.
    """
    beside = _table(entries, " ")
    fits = Console(width=10 * WIDTH).measure(beside).maximum <= WIDTH
    return beside if fits else _table(entries, "\n")


def _table(entries: Sequence[Entry], between: str) -> Group:
    """The table, with the text `between` each value and its interval."""
    first, others = entries[0], len(entries) > 1
    chosen = first.record.tuned_on
    columns = ["seeds", "environment\nsteps", *["adapts with"] * bool(chosen), *steps(first)]
    path = _columns(f"{title(entries)}\nmean return, stochastic policy", *columns)
    better = [f"better than\n{first.label}"] * others
    more = f"\nstatistics of the return {steps(first)[-1]}"
    end = _columns(more, "IQM", "worst decile", "gain", *better, "deterministic\nmean")
    for entry in entries:
        *_, last = rows = summary(entry, first)
        trained = in_words(float(np.mean(entry.environment_steps)))
        means = [_cell(row["mean"], between) for row in rows]
        adapts = ["\n".join(entry.adapts_with()) or "its settings"] * bool(chosen)
        path.add_row(escape(entry.label), str(len(entry.seeds)), trained, *adapts, *means)
        cells = [_cell(last[name], between) for name in ("iqm", "worst_decile", "gain")]
        if others:
            improvement = last["probability_of_improvement"]
            cells.append(_cell(improvement, between, decimals=2) if improvement else "")
        end.add_row(escape(entry.label), *cells, _cell(last["deterministic"]["mean"], between))
    caption = (
        f"[95% interval over {resampled(entries)}], environment steps: of the training of one run\n"
        "IQM: interquartile mean, worst decile: mean of the lowest tenth\n"
        "gain: over 0 steps, paired by seed and task; better: probability of a higher return on the same task\n"
        "deterministic: the policy takes the mean action"
        + f"\nadapts with: what is best of equally many candidates on {chosen}"
        * bool(chosen)
    )
    return Group(path, end, Text(caption))


def _cell(found: Estimate, between: str, decimals: int | None = None) -> str:
    text = str(found) if decimals is None else found.text(decimals)
    return text.replace(" [", f"{between}[")


def title(entries: Sequence[Entry]) -> str:
    """Family, number of test tasks, and episodes: the title of tables and figures."""
    record = entries[0].record
    return f"{family(entries)}, {len(record.tasks)} {record.split} tasks, {record.episodes} episodes a step"


def family(entries: Sequence[Entry]) -> str:
    """`PointNav-v0`."""
    return family_name(entries[0].record.environment)


def steps(entry: Entry) -> list[str]:
    """`after 0 steps`, `after 1 step`, …"""
    return [f"after {k} step{'s' * (k != 1)}" for k in range(entry.record.steps + 1)]


def resampled(entries: Sequence[Entry]) -> str:
    """What the intervals are taken over, in words."""
    several = [len(entry.seeds) > 1 for entry in entries]
    if all(several):
        return "seeds"
    return "seeds, of one seed over tasks" if any(several) else "tasks"


def to_json(entries: Sequence[Entry]) -> dict[str, Any]:
    """All numbers as plain data for strict JSON; `summary` has the form of that in an evaluation file."""
    record, first = entries[0].record, entries[0]
    common = ("environment", "split", "episodes", "horizon", "later_steps", "seed", "tasks", "units")
    return {
        "format": FORMAT,
        "version": VERSION,
        **{name: plain(getattr(record, name)) for name in common},
        "options": first.runs[0].settings["env"]["options"],
        "tuned_on": record.tuned_on,
        "reference": first.label,
        "entries": [
            {
                "label": entry.label,
                "runs": [str(run.run_dir) for run in entry.runs],
                "seeds": entry.seeds,
                "environment_steps": entry.environment_steps,
                "intervals_over": resampled([entry]),
                "settings": entry.runs[0].settings,
                "tuned": [run.record.tuned[META].chosen for run in entry.runs if META in run.record.tuned],
                "summary": plain(summary(entry, first)),
            }
            for entry in entries
        ],
    }


def in_words(n: float) -> str:
    """A number of steps with three digits, such as `4.8 M`."""
    n = float(f"{n:.3g}")  # 999,600 are 1 M, not 1000 k
    unit, size = next(((unit, size) for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)) if n >= size), ("", 1))
    return f"{n / size:.3g} {unit}".rstrip()


def _columns(title: str, *columns: str) -> Table:
    table = Table(title=escape(title), title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("", overflow="fold")
    for column in columns:
        table.add_column(escape(column), justify="right")
    return table
