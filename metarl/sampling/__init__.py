"""Episodes: of all tasks at once on a batched family, or of one task on any Gymnasium environment."""
