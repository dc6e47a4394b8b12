"""The commands ``rf promote``, ``rf rollback`` and ``rf bundles``."""
