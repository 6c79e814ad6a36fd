"""What a run guarantees, by what, and how strongly: the honest table of every launch.

Pure data and one pure decision; tiers fill it in from what the machine offers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from casemate.errors import UnsupportedError

Strength = Literal["hard", "soft", "absent", "waived"]
"""hard: the kernel refuses. soft: noticed and stopped within a stated time. absent: not held."""


@dataclass(frozen=True, slots=True)
class Guarantee:
    """One promise of `casemate.policy.model.GUARANTEES` as held in one run."""

    name: str
    strength: Strength
    by: str
    """The mechanism, as in "cgroup v1 memory controller"."""
    note: str = ""
    """What it does not cover, or which host setting stands in the way."""
    remedy: str = ""


def decide(
    guarantees: tuple[Guarantee, ...], *, waived: tuple[str, ...], strict: bool
) -> tuple[Guarantee, ...]:
    """The table with waivers applied.

    Raises `UnsupportedError` naming every guarantee that is absent (or, when `strict`, only soft)
    and was not waived: a launch never fails open.
    """
    decided = []
    missing = []
    for guarantee in guarantees:
        lacking = guarantee.strength == "absent" or (strict and guarantee.strength == "soft")
        if lacking and guarantee.name in waived:
            decided.append(Guarantee(guarantee.name, "waived", guarantee.by, guarantee.note))
            continue
        if lacking:
            missing.append(guarantee)
        decided.append(guarantee)
    if missing:
        names = ", ".join(guarantee.name for guarantee in missing)
        reasons = "; ".join(
            f"{guarantee.name}: {guarantee.note or guarantee.by}" for guarantee in missing
        )
        quoted = ", ".join(f'"{guarantee.name}"' for guarantee in missing)
        raise UnsupportedError(
            f"this machine cannot hold: {names} ({reasons})",
            allow=f"waive = [{quoted}]",
            hint="; ".join(dict.fromkeys(g.remedy for g in missing if g.remedy)),
        )
    return tuple(decided)
