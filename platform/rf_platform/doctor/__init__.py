"""``rf doctor``: checks of the installation, the stores and the served bundle, each with its remedy."""
