"""Episodes: of all tasks at once, or of one task on any Gymnasium environment."""
