"""Targets of training and evaluation: the types of their events, and what each weighs."""
