"""Policy: what the user wants, as text in TOML files and as one frozen value.

Knows nothing of platforms. `model` is the value, everything else makes it from text.
"""
