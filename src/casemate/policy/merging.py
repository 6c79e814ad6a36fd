"""How the values of two layers become one.

Each key has a `Merge` with two ways: `widen` when the later layer may say what it likes, `narrow`
when it may only take away (an untrusted file, or a key that an earlier layer locked). `narrow`
never returns anything wider than the earlier value, and says what it left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from casemate.policy import endpoints
from casemate.policy.model import Budget, Endpoint, PathRule, Pattern, Pin, Secret
from casemate.policy.units import format_size
from casemate.policy.values import NoLimit

# A value's type is fixed by its key's reader; merging is the one place that handles them alike.
Value = Any


@dataclass(frozen=True, slots=True)
class Merge:
    """`narrow` returns the value and a text for each thing it left out."""

    name: str
    widen: Callable[[Value, Value], Value]
    narrow: Callable[[Value, Value], tuple[Value, list[str]]]


def show(value: Value) -> str:
    """A value in a notice."""
    if isinstance(value, Endpoint | Pattern):
        return f'"{value.text}"'
    if isinstance(value, PathRule):
        return f'"{value.path}"'
    if isinstance(value, Secret):
        return value.name
    if isinstance(value, Pin):
        return f'"{value.host}:{value.port} = {value.address}:{value.to_port}"'
    if isinstance(value, NoLimit) or value is None:
        return '"none"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value >= 1 << 20:
        return f'"{format_size(value)}"'
    if isinstance(value, tuple) and value and isinstance(value[0], str):
        return value[0]
    return f'"{value}"' if isinstance(value, str) else str(value)


def _identity(item: Value) -> Value:
    """What makes two entries the same, wherever they came from."""
    if isinstance(item, PathRule):
        return item.path
    if isinstance(item, Endpoint | Pin | Secret):
        return replace(item, origin=_NOWHERE.origin)
    return item


_NOWHERE = Endpoint(text="", host="")


def _joined(old: tuple[Value, ...], new: tuple[Value, ...]) -> tuple[Value, ...]:
    # The order of patterns decides, so a repeated one counts where it was said last.
    if any(isinstance(item, Pattern) for item in new):
        return (*old, *new)
    known = [_identity(item) for item in old]
    added: list[Value] = []
    for item in new:
        if _identity(item) not in known:
            known.append(_identity(item))
            added.append(item)
    return (*old, *added)


def _replace(old: Value, new: Value) -> Value:
    return new


def _keep(old: Value, new: Value) -> tuple[Value, list[str]]:
    return old, [] if old == new else [show(new)]


def _strict(old: Value, new: Value) -> tuple[Value, list[str]]:
    return old or new, ["false"] if old and not new else []


def _lower(old: Value, new: Value) -> tuple[Value, list[str]]:
    def amount(value: Value) -> float:
        return float("inf") if isinstance(value, NoLimit) or value is None else value

    return (new, []) if amount(new) <= amount(old) else (old, [show(new)])


def _no_more(old: Value, new: Value) -> tuple[Value, list[str]]:
    def granted(item: Value) -> bool:
        if isinstance(item, Endpoint):
            return any(endpoints.covers(outer, item) for outer in old)
        return _identity(item) in [_identity(known) for known in old]

    return old, [show(item) for item in new if not granted(item)]


def _no_exceptions(old: Value, new: Value) -> tuple[Value, list[str]]:
    exceptions = [item for item in new if isinstance(item, Pattern) and item.negated]
    kept = tuple(item for item in new if item not in exceptions)
    return _joined(old, kept), [show(item) for item in exceptions]


def _widen_budget(old: Budget, new: Budget) -> Budget:
    said = {f.name: getattr(new, f.name) for f in fields(new) if getattr(new, f.name) is not None}
    return replace(old, **said)


def _narrow_budget(old: Budget, new: Budget) -> tuple[Budget, list[str]]:
    said, ignored = {}, []
    for name in (f.name for f in fields(new)):
        value = getattr(new, name)
        if value is None:
            continue
        if _lower(getattr(old, name), value)[1]:
            ignored.append(f"{name.replace('_', ' ')} {value}")
        else:
            said[name] = value
    return replace(old, **said), ignored


def _by_name(items: tuple[Value, ...]) -> dict[str, Value]:
    return {item.name if isinstance(item, Secret) else item[0]: item for item in items}


def _override(old: Value, new: Value) -> Value:
    return tuple((_by_name(old) | _by_name(new)).values())


def _no_new_names(old: Value, new: Value) -> tuple[Value, list[str]]:
    known = {name: _identity(item) for name, item in _by_name(old).items()}
    said = _by_name(new).items()
    return old, [name for name, item in said if known.get(name) != _identity(item)]


def ranked(*order: str) -> Merge:
    """A choice whose names go from the widest to the narrowest."""

    def narrow(old: Value, new: Value) -> tuple[Value, list[str]]:
        return (new, []) if order.index(new) >= order.index(old) else (old, [show(new)])

    return Merge("the later says it; narrower: " + " < ".join(order), _replace, narrow)


REPLACE = Merge("the later says it; cannot be narrowed", _replace, _keep)
STRICT = Merge("the later says it; true is narrower", _replace, _strict)
CEILING = Merge("the later says it; lower is narrower", _replace, _lower)
GRANT = Merge("entries add up; fewer are narrower", _joined, _no_more)
RESTRAINT = Merge("entries add up; more are narrower", _joined, _no_exceptions)
BUDGET = Merge(
    "the later says it, each kind apart; lower is narrower", _widen_budget, _narrow_budget
)
NAMED = Merge("the later says it, each name apart; fewer are narrower", _override, _no_new_names)
