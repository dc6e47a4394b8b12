"""Servable bundles: built from a training run, opened by the server."""
