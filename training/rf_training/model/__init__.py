"""The RetrievalFormer model: mathematics only; loss, optimiser and checkpoints live elsewhere."""
