"""Few-shot regression of sinusoids, by the same inner loop and the same algorithms as for robots."""
