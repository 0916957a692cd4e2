"""Evaluated runs side by side: several seeds of several algorithms, on the same test tasks in the same way."""

from metarl.comparison.entries import Entry, Run, load, not_evaluated, on_split
from metarl.comparison.labels import in_short
from metarl.comparison.pictures import draw
from metarl.comparison.results import summary, table, to_json

__all__ = ["Entry", "Run", "draw", "in_short", "load", "not_evaluated", "on_split", "summary", "table", "to_json"]
