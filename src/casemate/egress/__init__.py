"""Egress: the broker on the host in which every connection of a sandbox ends.

The rules, parsers and budgets are pure; `broker` and what it starts hold the side effects. Knows
nothing of tiers: it is given descriptors that connections can be accepted from.
"""
