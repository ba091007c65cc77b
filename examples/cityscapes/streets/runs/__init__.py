"""Directory of a run: configuration, weights, checkpoints, curves and pictures."""
