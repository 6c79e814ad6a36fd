"""Every key of a policy file: how it is read, and how one layer's value meets another's.

This table drives reading, merging, locking and the narrowing of untrusted files. To add a key,
add a line here and the field that `casemate.policy.layers.assemble` gives it to.
"""

from __future__ import annotations

from dataclasses import dataclass

from casemate.policy import secrets, values
from casemate.policy.merging import (
    BUDGET,
    CEILING,
    GRANT,
    NAMED,
    REPLACE,
    RESTRAINT,
    STRICT,
    Merge,
    ranked,
)
from casemate.policy.model import GUARANTEES, INDEXES, KERNEL_CAPABILITIES
from casemate.policy.values import Reader

VERSION = 1


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the file."""

    read: Reader
    merge: Merge


KEYS = {
    "version": Key(values.fixed_count, REPLACE),
    "tier": Key(values.choice("auto", "process", "vm"), ranked("process", "auto", "vm")),
    "vault": Key(values.choice("auto", "sgx", "vbs", "tpm", "software"), REPLACE),
    "strict": Key(values.flag, STRICT),
    "waive": Key(values.names_of(*GUARANTEES), GRANT),
    "workspace.mode": Key(
        values.choice("overlay", "direct", "readonly"), ranked("direct", "overlay", "readonly")
    ),
    "workspace.roots": Key(values.paths, GRANT),
    "workspace.hide": Key(values.patterns, RESTRAINT),
    "workspace.protect": Key(values.patterns, RESTRAINT),
    "workspace.disk": Key(values.fixed_size, CEILING),
    "workspace.files": Key(values.fixed_count, CEILING),
    "files.read": Key(values.paths, GRANT),
    "files.write": Key(values.paths, GRANT),
    "files.hide": Key(values.paths, RESTRAINT),
    "network.allow": Key(values.endpoints, GRANT),
    "network.deny": Key(values.denials, RESTRAINT),
    "network.total": Key(values.budget, BUDGET),
    "network.indexes": Key(values.names_of(*INDEXES), GRANT),
    "network.opaque": Key(values.hosts, GRANT),
    "network.resolve": Key(values.pins, GRANT),
    "network.trust": Key(values.paths, GRANT),
    "secrets": Key(secrets.secrets, NAMED),
    "limits.memory": Key(values.size, CEILING),
    "limits.processes": Key(values.count, CEILING),
    "limits.cpus": Key(values.quantity, CEILING),
    "limits.time": Key(values.duration, CEILING),
    "limits.open_files": Key(values.count, CEILING),
    "limits.output": Key(values.size, CEILING),
    "limits.scratch": Key(values.fixed_size, CEILING),
    "environment.pass": Key(values.variable_names, GRANT),
    "environment.set": Key(values.variables, NAMED),
    "kernel.allow": Key(values.names_of(*KERNEL_CAPABILITIES), GRANT),
}
"""By dotted name. `extends` and `locked` are about layers, not values, and are read apart."""

TABLES = tuple(dict.fromkeys(name.partition(".")[0] for name in KEYS if "." in name))


def keys_of(name: str) -> tuple[str, ...]:
    """The keys that a name in `locked` stands for: itself, or all those of a table."""
    return tuple(key for key in KEYS if key == name or key.startswith(f"{name}."))
