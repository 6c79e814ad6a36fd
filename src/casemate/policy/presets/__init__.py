"""The shipped presets: one TOML file each, in this directory."""

from __future__ import annotations

import os
from functools import cache

from casemate.policy.reader import Layer, read

ALWAYS = ("system", "toolchains", "default")
"""Presets that every policy starts from, in this order."""

_DIRECTORY = os.path.dirname(os.path.abspath(__file__))


@cache
def names() -> tuple[str, ...]:
    """Every preset, sorted."""
    found = (
        name.removesuffix(".toml") for name in os.listdir(_DIRECTORY) if name.endswith(".toml")
    )
    return tuple(sorted(found))


@cache
def load(name: str) -> Layer:
    """One preset as a layer. `name` is one of `names()`."""
    with open(os.path.join(_DIRECTORY, f"{name}.toml"), "rb") as file:
        return read(file.read(), source=f"preset {name}", base="", preset=True)
