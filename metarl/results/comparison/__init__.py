"""Comparison of evaluated runs, of several algorithms and seeds, on the same test tasks."""

from metarl.results.comparison.entries import Entry, load, not_evaluated, on_split
from metarl.results.comparison.pictures import draw
from metarl.results.comparison.tables import table, to_json

__all__ = ["Entry", "draw", "load", "not_evaluated", "on_split", "table", "to_json"]
