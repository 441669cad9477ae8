"""Exports in the hands of others: what they compute from them, and how fast."""
