"""Results of runs: records of evaluations and comparisons, tables, figures, and the report."""
