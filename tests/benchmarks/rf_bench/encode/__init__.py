"""Encoding requests: what one costs, alone and together with others."""
