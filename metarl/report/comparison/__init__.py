"""Comparison of evaluated runs, of several algorithms and seeds, on the same test tasks."""

from metarl.report.comparison.entries import Entry, load, not_evaluated, on_split
from metarl.report.comparison.pictures import draw
from metarl.report.comparison.tables import table, to_json

__all__ = ["Entry", "draw", "load", "not_evaluated", "on_split", "table", "to_json"]
