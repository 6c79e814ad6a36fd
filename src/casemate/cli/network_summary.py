"""What a run did with the network, for its summary."""

from __future__ import annotations

from typing import Any

from casemate.cli.style import Style, count
from casemate.policy.units import format_size
from casemate.policy.values import printable

REFUSALS = 10
"""Refusals listed; `casemate log` shows the others."""


def network_lines(network: dict[str, Any] | None, style: Style) -> list[str]:
    """How much was allowed and refused, and for each refusal the line that would allow it."""
    if network is None:
        return []
    if "error" in network:
        return [style.paint(f"network: {printable(str(network['error']))}", "red")]
    total = network["budgets"]["total"]
    up, down = format_size(total["bytes_up"]), format_size(total["bytes_down"])
    line = f"network: {count(network['allowed'], 'exchange')} allowed, {up} out, {down} in"
    if not network["refused"]:
        return [line]
    lines = [line + style.paint(f"; {network['refused']} refused", "yellow")]
    refusals = network["refusals"]
    for refusal in refusals[:REFUSALS]:
        times = f" ({refusal['count']} times)" if refusal["count"] > 1 else ""
        lines += style.wrap(f"{printable(refusal['message'])}{times}", "  ", hanging="    ")
        if refusal["allow"]:
            lines.append(f"    to allow it: {printable(refusal['allow'])}")
    if len(refusals) > REFUSALS:
        lines.append("  and more: casemate log --refused")
    return lines
