"""The vault: credentials in a process of their own, put into requests at the boundary.

Knows which hosts a secret belongs to, and nothing else of the network's rules.
"""
