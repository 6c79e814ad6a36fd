"""Plan: exactly what one sandbox will contain, as pure data.

Knows the policy and facts about the host, and no platform API. Tiers carry a plan out.
"""
