"""Many runs: those of a sweep or of a table of results, each once, side by side."""
