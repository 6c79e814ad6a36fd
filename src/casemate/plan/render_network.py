"""The network and the secrets of a plan, for `casemate plan`."""

from __future__ import annotations

from casemate.plan.model import Plan
from casemate.policy.endpoints import budget_words
from casemate.policy.model import Endpoint
from casemate.policy.values import printable

Row = tuple[str, str, str]


def network_rows(plan: Plan) -> list[Row]:
    """What may leave and what may not, each with the rule it comes from."""
    network = plan.network
    rows = [(f"  {printable(rule.text)}", "allowed", str(rule.origin)) for rule in network.allow]
    rows += [(f"  {printable(rule.text)}", "denied", _why(rule)) for rule in network.deny]
    if not network.allow:
        return rows or [("  closed", "", "nothing leaves")]
    rows += [(f"  {words}", "budget", "of the session") for words in budget_words(network.total)]
    rows += [(f"  {printable(host)}", "opaque", "never looked into") for host in network.opaque]
    rows += [
        (f"  {pin.host}:{pin.port}", "pinned", f"to {pin.address}:{pin.to_port}; {pin.origin}")
        for pin in network.resolve
    ]
    rows += [(f"  {printable(rule.path)}", "trusted", str(rule.origin)) for rule in network.trust]
    ports = ", ".join(str(one.port) for one in plan.listeners if one.kind == "tcp")
    rows.append(("  ports with a listener", "", f"{ports}; others only by the proxy"))
    how = "where a rule or a secret needs it" if plan.trust else "nowhere"
    rows.append(("  requests are looked into", "", how))
    return rows


def secret_rows(plan: Plan) -> list[Row]:
    """Which secrets are put in, and where."""
    return [
        (
            f"  {secret.name}",
            ", ".join(secret.to),
            f"as {secret.form}{f' {secret.form_name}' if secret.form_name else ''}; {secret.origin}",
        )
        for secret in plan.secrets
    ]


def network_as_json(plan: Plan) -> dict[str, object]:
    """The same for programs."""
    network = plan.network
    return {
        "allow": [_rule(rule) for rule in network.allow],
        "deny": [_rule(rule) for rule in network.deny],
        "total": list(budget_words(network.total)),
        "opaque": list(network.opaque),
        "resolve": [
            {
                "host": pin.host,
                "port": pin.port,
                "address": pin.address,
                "to_port": pin.to_port,
                "origin": str(pin.origin),
            }
            for pin in network.resolve
        ],
        "trust": [rule.path for rule in network.trust],
        "listeners": [{"kind": one.kind, "port": one.port} for one in plan.listeners],
        "inspects": plan.trust is not None,
    }


def _rule(rule: Endpoint) -> dict[str, object]:
    return {
        "rule": rule.text,
        "budgets": list(budget_words(rule.budget)),
        "origin": str(rule.origin),
        "reason": rule.reason,
    }


def _why(rule: Endpoint) -> str:
    return f"{rule.reason} ({rule.origin})" if rule.reason else str(rule.origin)
