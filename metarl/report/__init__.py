"""A run for people to read: evaluations, tables, comparisons, and the HTML page."""
