"""Evaluated runs side by side: several seeds of several algorithms, on the same test tasks in the same way."""

from metarl.report.comparison.entries import Entry, Run, load, not_evaluated, on_split
from metarl.report.comparison.labels import in_short
from metarl.report.comparison.pictures import draw
from metarl.report.comparison.tables import summary, table, to_json

__all__ = ["Entry", "Run", "draw", "in_short", "load", "not_evaluated", "on_split", "summary", "table", "to_json"]
