"""Audit: what was allowed and refused, as a hash-chained journal that anyone can check."""
