"""``rf bench train``: what a training step costs, and where its time goes."""
