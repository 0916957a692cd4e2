"""What a run was made with, and how to make it again."""

from __future__ import annotations

import shlex
from typing import Any

from metarl import config
from metarl.config.settings import NAME
from metarl.experiment import Experiment
from metarl.report import records
from metarl.report.html.markup import Html, body, commands, element, section, table
from metarl.report.html.run_data import RunData


def settings_section(story: RunData) -> Html:
    """What differs from the defaults, then everything."""
    rows = [
        [element("code", key), *(element("code", _written(value)) for value in (own, default))]
        for key, (default, own) in differences(story.experiment).items()
    ]
    columns, about = ("setting", "here", "default"), "What differs from the defaults of this algorithm:"
    shown = [element("p", about, class_="note"), table(about, columns, body(rows), words=True)]
    whole = element("details", element("summary", "All settings"), element("pre", element("code", story.config)))
    return section("settings", "Settings", *(shown if rows else ["Every setting has its default."]), whole)


def differences(experiment: Experiment) -> dict[str, tuple[Any, Any]]:
    """Key -> default and own value. The defaults are those of the algorithm and the inner loop that were chosen."""
    usual, own = (config.to_dict(each)["algorithm"] for each in (Experiment(), experiment))
    kinds, usual_kinds = ({NAME: each[NAME], "inner": {NAME: each["inner"][NAME]}} for each in (own, usual))
    defaults = config.from_dict({"algorithm": kinds}, Experiment)
    return config.difference({"algorithm": usual_kinds}, {"algorithm": kinds}) | config.difference(defaults, experiment)


def _written(value: Any) -> str:
    """A value as a config has it."""
    words = {True: "true", False: "false", None: "null"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def versions_section(story: RunData) -> Html:
    """What it was trained and evaluated with."""
    evaluated = story.record.versions if story.record else {}
    sources = {"training": story.versions, "evaluation": evaluated}
    if evaluated == story.versions:
        sources = {"training and evaluation": evaluated}
    elif not evaluated:
        del sources["evaluation"]
    names = dict.fromkeys(name for source in sources.values() for name in source)
    rows = [[name, *(source.get(name, "") for source in sources.values())] for name in names]
    return section("versions", "Versions", table("Versions", ["", *sources], body(rows), words=True))


def reproduce_section(story: RunData) -> Html:
    """The commands that lead to this page."""
    commit, again = story.versions.get("git", ""), f"{story.folder}-again"
    lines = [shlex.join(["git", "checkout", commit.removesuffix("+")])] if commit else []
    lines.append(shlex.join(["python", "scripts/train.py", "config.yaml", "--run-dir", again]))
    if story.record:
        lines.append(records.command(again, story.record.split, story.record))
    lines.append(shlex.join(["python", "scripts/report.py", again]))
    about = (
        "All settings from above are config.yaml. The same versions on the same kind of machine give the same numbers."
    )
    edited = " The source was edited after this commit." if commit.endswith("+") else ""
    return section("reproduce", "Reproduce", element("p", about, edited), commands(lines))
