"""Many runs, those of a sweep or of a table of results: each of them once, several at a time."""
