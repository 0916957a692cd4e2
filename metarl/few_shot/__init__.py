"""Few-shot regression of sinusoids, with the same inner loop and the same algorithms as for robots."""
