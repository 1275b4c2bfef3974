"""A training run: presets, corpora, the loop, checkpoints, and the commands."""
