"""What is written of a run for people: evaluations, tables, comparisons, and the HTML page."""
