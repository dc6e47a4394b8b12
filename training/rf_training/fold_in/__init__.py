"""Items learn from their first events: the rule of evidence, the events themselves, and what they are worth."""

from rf_training.fold_in.rule import Evidence, FoldIn, popularity_bias

__all__ = ["Evidence", "FoldIn", "popularity_bias"]
