"""A synthetic catalog with the skew of a real one: users with tastes, items with attributes that explain choices."""

from rf_platform.data.synth.options import SynthOptions
from rf_platform.data.synth.shop import MAPPING, write_shop
from rf_platform.data.synth.tables import CATALOG, synthesise

__all__ = ["CATALOG", "MAPPING", "SynthOptions", "synthesise", "write_shop"]
