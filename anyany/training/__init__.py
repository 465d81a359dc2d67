"""Training: recipes, data order, optimiser, checkpoints of a run."""
