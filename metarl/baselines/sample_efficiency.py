"""Sample efficiency: return against steps, steps to 90% of the oracle, and when PPO overtakes adaptation."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from metarl.baselines import rl2
from metarl.baselines.ppo_job import PPOResult
from metarl.baselines.setup import ORACLE, PPO_SCRATCH, Setup
from metarl.experiment.tuning import Tuned
from metarl.figures import adaptation
from metarl.results.baseline_record import BaselineRecord, LearningCurves
from metarl.results.records import META, RANDOM
from metarl.statistics import estimate, mean, over_tasks, paired_gain

SHARE = 0.9
"""The threshold of `steps_to`, as a share of the way from the random initialization to the oracle."""
OF_TRIALS = f"{rl2.LABEL} is measured in the episodes by which it adapts, the other methods in further ones."
HEADER = 16
"""Width of a column's name, in letters, before it is wrapped."""
TO_SHARE = f"steps to {SHARE:.0%} of the oracle"
Measured = tuple[NDArray[np.integer], NDArray[np.floating]]


@dataclass(frozen=True)
class SampleEfficiency:
    """The return of each method on each test task, against its environment steps on that task."""

    methods: Mapping[str, Measured]
    """Label -> environment steps (P,), ascending from 0, and returns (tasks, P); `META` and `RANDOM` are there."""
    oracle: NDArray[np.floating] | None
    """(tasks,): return of the oracle; None without one."""
    steps_each: int
    """Environment steps on a task in one adaptation step or rollout."""
    tuned: Mapping[str, Tuned] = field(default_factory=dict)
    """Label -> the settings that were chosen for the method; a method that is missing has those of its run."""

    @property
    def curves(self) -> LearningCurves:
        """Label -> steps (P,), and the mean over tasks with the spread over them; the oracle's curve is constant."""
        curves = {label: (steps, [estimate(x) for x in returns.T]) for label, (steps, returns) in self.methods.items()}
        if self.oracle is not None:
            last = max(steps[-1] for steps, _ in self.methods.values())
            curves[ORACLE] = np.array([0, last]), [estimate(self.oracle)] * 2
        return curves

    @property
    def threshold(self) -> float | None:
        """Mean return at 90% of the way from the random initialization to the oracle; None if that is not better."""
        if self.oracle is None:
            return None
        start, end = float(mean(self.methods[RANDOM][1][:, 0])), float(mean(self.oracle))
        return start + SHARE * (end - start) if end > start else None

    def steps_to(self, label: str, threshold: float) -> int | None:
        """Steps at the first test point where the method's mean return is at least the threshold; None: at none."""
        steps, returns = self.methods[label]
        reached = np.flatnonzero(mean(returns, axis=0) >= threshold)
        return int(steps[reached[0]]) if len(reached) else None

    def overtakes(self, label: str, other: str = META) -> int | None:
        """Steps at the first test point from which on the method stays better than the other; None if there is none.

        It is better if the 95% interval over tasks of the difference of their returns, paired by task, is above 0: for
        these runs, and not for other seeds of their training. The other's
        return is that at its last test point with at most as many steps.
        """
        steps, returns = self.methods[label]
        above = [over_tasks(own - its).low > 0 for its, own in zip(self._at(other, steps).T, returns.T, strict=True)]
        behind = np.flatnonzero(~np.array(above))
        first = behind[-1] + 1 if len(behind) else 0
        return int(steps[first]) if first < len(steps) else None

    def _at(self, label: str, steps: NDArray[np.integer]) -> NDArray[np.floating]:
        """The method's returns at its last test point within each number of steps, (tasks, P)."""
        own, returns = self.methods[label]
        return returns[:, np.searchsorted(own, steps, side="right") - 1]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row for each method: its steps to 90% of the oracle (None: not reached), and mean returns."""
        threshold, each = self.threshold, np.array([self.steps_each])
        reached = {} if threshold is None else {label: self.steps_to(label, threshold) for label in self.methods}
        rows = []
        for label, (steps, returns) in self.methods.items():
            row: dict[str, Any] = {"label": label} | ({TO_SHARE: reached[label]} if reached else {})
            if steps[-1] >= self.steps_each:
                row[f"return after {self.steps_each:,} steps"] = float(mean(self._at(label, each)[:, 0]))
            rows.append(row | {"return at the end": float(mean(returns[:, -1])), "steps at the end": int(steps[-1])})
        return rows

    @property
    def remarks(self) -> list[str]:
        """Sentences: when PPO from scratch overtakes the meta-learned policy, and what 90% of the oracle is."""
        remarks = [self._overtaking(), *self._chosen(), *[OF_TRIALS] * (rl2.LABEL in self.methods)]
        if self.oracle is None:
            return remarks
        start, end = float(mean(self.methods[RANDOM][1][:, 0])), float(mean(self.oracle))
        if (threshold := self.threshold) is None:
            return [
                *remarks,
                f"The oracle's mean return, {end:z.1f}, is not above that of the random initialization, {start:z.1f}: "
                "train it for longer.",
            ]
        return [
            *remarks,
            f"{SHARE:.0%} of the oracle is a mean return of {threshold:z.1f}: that of the random initialization, "
            f"{start:z.1f}, and {SHARE:.0%} of the way from there to the oracle's, {end:z.1f}. Steps are those at the "
            "first test that reached it.",
        ]

    @property
    def overtaking(self) -> tuple[str, int] | None:
        """PPO from scratch, and the steps after which it overtakes the meta-learned policy; None where it does not."""
        steps = self.overtakes(PPO_SCRATCH)
        return (PPO_SCRATCH, steps) if steps else None

    def _overtaking(self) -> str:
        """A sentence: when PPO from scratch overtakes the meta-learned policy, or how it compares at the end."""
        steps, returns = self.methods[PPO_SCRATCH]
        others = self._at(META, steps)
        first = self.overtakes(PPO_SCRATCH)
        index = len(steps) - 1 if first is None else int(np.searchsorted(steps, first))
        gap, here = paired_gain(others[:, index], returns[:, index]), estimate(returns[:, index])
        if first == 0:
            return (
                f"{PPO_SCRATCH} is above the meta-learned policy from the start, where its return is {here}, the "
                f"difference {gap}: more meta-training may help."
            )
        verb, when = ("does not overtake", "within") if first is None else ("overtakes", "after")
        last = int(self.methods[META][0][-1])
        stopped = f" The meta-learned policy adapts for the first {last:,} of them." if steps[index] > last else ""
        return (
            f"{PPO_SCRATCH} {verb} the meta-learned policy {when} {steps[index]:,} steps "
            f"on the new task, {steps[index] / self.steps_each:g} times those of one adaptation step: its return there "
            f"is {here}, the difference {gap}.{stopped}"
        )

    def _chosen(self) -> list[str]:
        """A sentence: the settings that were chosen, and what for; none where nothing was chosen."""
        if not self.tuned:
            return []
        first = next(iter(self.tuned.values()))
        own = [f"{label}: {each.in_words} (of {len(each.candidates)})" for label, each in self.tuned.items()]
        return [f"Chosen on {first.tasks} {first.split} tasks, with the number of candidates: {'; '.join(own)}."]

    def table(self, title: str) -> Table:
        """The rows, for the terminal."""
        table = Table(title=escape(title), title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False)
        rows = self.rows
        names = list(dict.fromkeys(name for row in rows for name in row))
        for name in names:
            header = "" if name == "label" else textwrap.fill(name, HEADER)
            table.add_column(escape(header), justify="left" if name == "label" else "right")
        for row in rows:
            table.add_row(*(escape(_cell(row[name])) if name in row else "" for name in names))
        return table

    def draw(self, path: Path, title: str) -> None:
        """Write a figure of the return against the steps on a new task."""
        adaptation.sample_efficiency(path, self.curves, title, "environment steps on the new task", self.overtaking)

    def to_json(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Everything as plain data for strict JSON, with the name and version of the format; about: of the runs."""
        returns = {label: returns.tolist() for label, (_, returns) in self.methods.items()}
        if self.oracle is not None:
            returns[ORACLE] = self.oracle[:, None].tolist()
        record = BaselineRecord(self.curves, self.rows, self.remarks, overtaking=self.overtaking)
        tuned = {label: vars(each) for label, each in self.tuned.items()}
        return record.to_json({"returns": returns, "threshold": self.threshold, "tuned": tuned, **about})


def gather(
    setup: Setup,
    adapted: Mapping[str, NDArray[np.floating]],
    oracle: NDArray[np.floating] | None,
    learned: Mapping[str, Sequence[PPOResult]],
    rollouts: Sequence[int],
    tuned: Mapping[str, Tuned],
) -> SampleEfficiency:
    """The results of all methods, against environment steps.

    Args:
        setup: the comparison.
        adapted: label -> return after 0..K adaptation steps, (tasks, K+1).
        oracle: return of the oracle, (tasks,); None without one.
        learned: label -> the result of PPO on each task.
        rollouts: the numbers of rollouts after which PPO was tested, (P,).
        tuned: label -> the settings that were chosen for a method.
    """
    each = setup.steps_each
    methods: dict[str, Measured] = {label: (each * np.arange(x.shape[1]), x) for label, x in adapted.items()}
    for label, found in learned.items():
        methods[label] = each * np.array(rollouts), np.stack([of_task.returns for of_task in found])
    if setup.rl2:
        methods[rl2.LABEL] = setup.rl2.horizon * np.arange(setup.rl2.returns.shape[1]), setup.rl2.returns
    return SampleEfficiency(methods, oracle, each, tuned)


def mean_metrics(label: str, learned: Sequence[PPOResult]) -> dict[int, dict[str, float]]:
    """Environment steps on a task -> the metrics of a method, each the mean over the tasks that have it.

    The name of the method is inserted: `sb3/rollout/ep_rew_mean` becomes `sb3/from_scratch/rollout/ep_rew_mean`.
    Durations are left out, because several tasks are learned at the same time.
    """
    values: dict[int, dict[str, list[float]]] = {}
    method = label.removeprefix("PPO ").replace(" ", "_").replace("-", "_")
    for of_task in learned:
        for at, metrics in of_task.metrics:
            for name, value in metrics.items():
                if value is not None and "/time/" not in name:
                    own = name.replace("sb3/", f"sb3/{method}/", 1)
                    values.setdefault(at, {}).setdefault(own, []).append(value)
    return {at: {name: float(np.mean(x)) for name, x in named.items()} for at, named in sorted(values.items())}


def _cell(value: Any) -> str:
    match value:
        case None:
            return "not reached"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:z.1f}"
    return str(value)
