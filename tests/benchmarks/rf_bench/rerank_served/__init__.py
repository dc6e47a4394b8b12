"""Re-ranking in the answers of a bundle: what each order adds to a request."""
