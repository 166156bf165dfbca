"""Decisions during a run, and the one task that applies them."""
