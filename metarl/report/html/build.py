"""The whole page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metarl.report.html import header, provenance, results
from metarl.report.html.markup import element, page
from metarl.report.html.run_data import RunData
from metarl.report.html.videos import Films

PROVENANCE = (provenance.settings_section, provenance.versions_section, provenance.reproduce_section)


def build(story: RunData, aim: str = "", tasks: Sequence[Any] | None = None, films: Films | None = None) -> str:
    """The report of a run as an HTML document.

    Args:
        aim: what the robot has to do, in words.
        tasks: those of its evaluation, which is shown only with them.
        films: of some of them.
    """
    record = story.record
    parts = [header.header(story, aim), header.headline(story), results.learning_section(story)]
    if record and tasks is not None:
        parts += [results.adaptation_section(story, record), results.tasks_section(record, tasks)]
        if films:
            parts.append(results.films_section(record, tasks, films))
    if story.baselines:
        parts.append(results.baselines_section(story.baselines, story.state.environment_steps))
    parts += [section(story) for section in PROVENANCE]
    title = f"{story.name}: {story.family}, {header.algorithm_name(story.experiment)}"
    return page(title, element("main", *parts))
