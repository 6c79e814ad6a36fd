"""The programs that play the agent; run by any Python of 3.9 or newer, never imported."""

import os


def program(name: str) -> str:
    """The path of the program `name`, "edit" or "attack"."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
