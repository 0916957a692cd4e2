"""Results of runs: evaluation files, tables, comparisons, and the HTML page."""
