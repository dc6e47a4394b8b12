"""Training data on its way to the model: windows of histories, batches of tensors."""
