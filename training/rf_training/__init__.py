"""Training layer: the RetrievalFormer model, losses, trainer, recipes, evaluation and baselines."""
