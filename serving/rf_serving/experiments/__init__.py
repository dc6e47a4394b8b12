"""Experiments: answers joined with what users did afterwards, verdicts on splits, and estimates before a split."""
