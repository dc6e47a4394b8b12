"""Answers for many users at once, by the code that answers requests: `rf batch`."""
