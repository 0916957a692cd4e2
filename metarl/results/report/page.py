"""Build the page from the templates in this folder."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from metarl.results.report import formatting, sections
from metarl.results.report.algorithm_names import algorithm_name, algorithm_settings
from metarl.results.report.run_data import RunData
from metarl.results.report.videos import Videos, data_url

TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("metarl.results.report"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters |= {
    "estimate": formatting.mark_estimate,
    "split": formatting.split_estimate,
    "number": formatting.format_number,
    "count": formatting.format_count,
    "noun": formatting.format_noun,
    "minus": formatting.format_text,
    "setting": formatting.format_setting,
    "cell": formatting.format_cell,
    "data_url": data_url,
}


def build(run: RunData, aim: str = "", tasks: Sequence[Any] | None = None, videos: Videos | None = None) -> str:
    """The report of a run as an HTML document.

    Args:
        aim: the aim of the tasks, in words.
        tasks: the M tasks of `run.record`; None: the evaluation is not shown.
        videos: of some of these tasks.
    """
    record, base = run.record, run.baselines
    parts: list[tuple[str, str, Callable[[], sections.Values]]] = [
        ("learning", "Learning", lambda: sections.learning_curve(run))
    ]
    if record and tasks is not None:
        parts.append(("adaptation", "Adaptation", lambda: sections.adaptation(run, record)))
        parts.append(("tasks", "Return per task", lambda: sections.tasks(record, tasks)))
        if videos:
            parts.append(("videos", "Before and after", lambda: sections.videos(record, tasks, videos)))
    if base:
        parts.append(("baselines", "Baselines", lambda: sections.baselines(base, run.state.environment_steps)))
    parts.append(("settings", "Settings", lambda: sections.settings(run)))
    parts.append(("reproduce", "Reproduce", lambda: sections.reproduce(run)))
    return TEMPLATES.get_template("page.html").render(
        run=run,
        aim=aim,
        algorithm=algorithm_name(run.experiment),
        algorithm_settings=algorithm_settings(run.experiment),
        summary=_fill("summary", run, lambda: sections.summary(run)),
        sections=[(name, title, _fill(name, run, values)) for name, title, values in parts],
    )


def _fill(name: str, run: RunData, values: Callable[[], sections.Values]) -> Markup:
    """Fill the template of a section. Where that fails, the section is the reason, and there is a warning."""
    try:
        return Markup(TEMPLATES.get_template(f"{name}.html").render(run=run, record=run.record, **values()))
    except Exception as error:  # a file of the run may hold anything
        reason = f"{type(error).__name__}: {error}"
        warnings.warn(f"no section {name!r} in the page: {reason}", stacklevel=2)
        return Markup('<p class="notice">This part cannot be shown ({}).</p>').format(reason)
