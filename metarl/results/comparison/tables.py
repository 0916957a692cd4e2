"""The table of a comparison for the terminal, and its numbers as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from metarl.results import records
from metarl.results.comparison.entries import Entry
from metarl.results.records import META
from metarl.sampling.protocols import family_name
from metarl.statistics import Estimate, estimate, plain, probability_of_improvement, shown_as

FORMAT, VERSION = "metarl-comparison", 1
WIDTH = 100
"""Characters in a line of the table, if the labels are short enough."""


def summary(entry: Entry, reference: Entry, oracle: Entry | None = None) -> list[dict[str, Any]]:
    """`records.summaries` of an entry, and how it compares with others, after each step.

    - difference: its return minus that of `reference`, paired by task and seed, over the seeds that both have
    - probability_of_improvement: over `reference`
    - gap_to_oracle: (after - before) / (oracle - before), the share of the way to the oracle before its adaptation
    """
    rows = records.summaries(entry.returns, entry.deterministic)
    own, others = paired(entry, reference)
    for k, row in enumerate(rows):
        pair = entry.returns[..., k], reference.returns[..., k]
        row["difference"] = None if entry is reference or not len(own) else estimate(own[..., k] - others[..., k])
        row["probability_of_improvement"] = None if entry is reference else probability_of_improvement(*pair)
        row["gap_to_oracle"] = gap_to_oracle(entry.returns, oracle, k) if oracle and entry is not oracle else None
    return rows


def paired(entry: Entry, reference: Entry) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """The returns (seeds, tasks, K+1) of both with the seeds that both have."""
    common = sorted({*entry.seeds} & {*reference.seeds})
    own, others = (each.returns[[each.seeds.index(seed) for seed in common]] for each in (entry, reference))
    return own, others


def gap_to_oracle(returns: NDArray[np.floating], oracle: Entry, k: int) -> float | None:
    """(after - before) / (oracle - before) of means over seeds and tasks; None where the oracle is not above before.

    returns: (seeds, tasks, K+1), before adaptation and after 1, 2, … steps.
    """
    before, after = float(np.nanmean(returns[..., 0])), float(np.nanmean(returns[..., k]))
    best = float(np.nanmean(oracle.returns[..., 0]))
    return (after - before) / (best - before) if best > before else None


def oracle_of(entries: Sequence[Entry]) -> Entry | None:
    """The first entry whose policies see their task; None without one."""
    return next((entry for entry in entries if entry.is_oracle), None)


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
    oracle = oracle_of(entries)
    end = _columns(
        f"\nstatistics of the return {steps(first)[-1]}", "IQM", "worst decile", "gain", "deterministic\nmean"
    )
    against = _columns(
        f"\nreturn {steps(first)[-1]}, compared with {first.label}",
        *["difference", "probability of\na higher return"] * others,
        *["of the gap to\nthe oracle"] * bool(oracle),
    )
    for entry in entries:
        *_, last = rows = summary(entry, first, oracle)
        trained = in_words(float(np.mean(entry.environment_steps)))
        means = [_cell(row["mean"], between) for row in rows]
        adapts = ["\n".join(entry.adapts_with()) or "its settings"] * bool(chosen)
        path.add_row(escape(entry.label), str(len(entry.seeds)), trained, *adapts, *means)
        cells = [_cell(last[name], between) for name in ("iqm", "worst_decile", "gain")]
        end.add_row(escape(entry.label), *cells, _cell(last["deterministic"]["mean"], between))
        difference, better, gap = (last[x] for x in ("difference", "probability_of_improvement", "gap_to_oracle"))
        compared = [_cell(difference, between) if difference else "", better.text(2) if better else ""] * others
        compared += ["" if gap is None else f"{gap:.0%}"] * bool(oracle)
        against.add_row(escape(entry.label), *compared)
    caption = [
        f"beside a mean: {shown_as(*(len(entry.seeds) for entry in entries))}",
        "environment steps: of the training of one run",
        "IQM: interquartile mean, worst decile: mean of the lowest tenth",
        "gain: over 0 steps; difference: of returns; both paired by seed and task",
        "probability of a higher return: on the same task",
        "deterministic: the policy takes the mean action",
        noisiest(entries),
        *["of the gap to the oracle: (after - before) / (oracle - before)"] * bool(oracle),
        *[f"adapts with: what is best of the same candidates on {chosen}"] * bool(chosen),
    ]
    parts = [path, end, *[against] * (others or bool(oracle))]
    return Group(*parts, Text("\n".join(filter(None, caption))))


def _cell(found: Estimate, between: str) -> str:
    """An estimate as text, with `between` the value and what stands beside it."""
    return str(found).replace(" ", between, 1)


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


def noisiest(entries: Sequence[Entry]) -> str:
    """The noise of evaluation of the run that has the most, in words; empty where it is not known."""
    records = [run.record for entry in entries for run in entry.runs if run.record.noise_in_words]
    return max(records, key=lambda record: record.noise[META][-1]).noise_in_words if records else ""


def to_json(entries: Sequence[Entry]) -> dict[str, Any]:
    """All numbers as plain data for strict JSON; `summary` has the form of that in an evaluation file."""
    record, first = entries[0].record, entries[0]
    common = ("environment", "split", "episodes", "horizon", "later_steps", "seed", "tasks", "units")
    return {
        "format": FORMAT,
        "version": VERSION,
        **{name: plain(getattr(record, name)) for name in common},
        "oracle": oracle.label if (oracle := oracle_of(entries)) else None,
        "options": first.runs[0].settings["env"]["options"],
        "tuned_on": record.tuned_on,
        "reference": first.label,
        "entries": [
            {
                "label": entry.label,
                "runs": [str(run.run_dir) for run in entry.runs],
                "seeds": entry.seeds,
                "environment_steps": entry.environment_steps,
                "intervals_over": "seeds" if len(entry.seeds) > 1 else None,
                "paired_seeds": sorted({*entry.seeds} & {*first.seeds}),
                "settings": entry.runs[0].settings,
                "tuned": [run.record.tuned[META].chosen for run in entry.runs if META in run.record.tuned],
                "summary": plain(summary(entry, first, oracle_of(entries))),
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
    table.min_width = max(map(len, title.splitlines()))  # otherwise a title is wrapped where the columns are narrow
    table.add_column("", overflow="fold")
    for column in columns:
        table.add_column(escape(column), justify="right")
    return table
