"""A bar for those who wait, and for nobody else."""

import io

import pytest
from rich.console import Console

from metarl.runs import console
from metarl.runs.console import PatientProgress


def shown(monkeypatch, patience, **settings):
    """What two parts of three put on the terminal."""
    monkeypatch.setattr(console, "PATIENCE", patience)
    text = io.StringIO()
    with PatientProgress("adapting", 3, Console(file=text, **settings)) as progress:
        progress.advance()
        progress.advance()
    return text.getvalue()


def test_a_bar_appears_for_those_who_wait_and_goes_away(monkeypatch):
    text = shown(monkeypatch, patience=-1, force_terminal=True)
    assert "adapting" in text
    assert text.rstrip().endswith("\x1b[2K")  # the line is erased


@pytest.mark.parametrize(("patience", "terminal"), [(60, True), (-1, False)])
def test_there_is_none_where_it_is_done_soon_or_nobody_looks(monkeypatch, patience, terminal):
    assert shown(monkeypatch, patience, force_terminal=terminal) == ""
