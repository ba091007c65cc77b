"""The directory of a run: configuration, weights, checkpoints, curves and pictures."""
