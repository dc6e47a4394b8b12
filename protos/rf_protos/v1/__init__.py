"""Generated stubs of ``retrievalformer.v1``."""
