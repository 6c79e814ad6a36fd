"""Tiers carry a plan out. All side effects of isolation live below this package."""
