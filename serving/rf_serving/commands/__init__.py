"""The commands ``rf index``, ``rf serve``, ``rf query`` and ``rf demo``."""
