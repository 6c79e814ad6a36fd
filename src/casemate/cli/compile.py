"""Options -> plan -> launch: reads the policy layers and the host. The slow half of `prepare`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import tomllib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from casemate.errors import UsageError
from casemate.plan.build import build
from casemate.plan.host import Host
from casemate.plan.model import Plan
from casemate.policy.layers import COMMAND_LINE, Loaded, Notice, load
from casemate.policy.model import Policy
from casemate.policy.reader import Layer, read_document
from casemate.tiers.linux.launch import INSIDE_ID, compile_launch
from casemate.workspace.create import encode_patterns

if TYPE_CHECKING:
    from casemate.cli.run import Options
    from casemate.policy.locations import Locations


def compile_run(
    options: Options, locations: Locations, project: str, directory: str, *, bare: bool
) -> dict[str, Any]:
    """The launch for these options, with what the session's record says of it.

    Raises `PolicyError`, `UsageError` or `UnsupportedError`.
    """
    # Made by the run anyway; made afterwards it would be a change that the plan does not survive.
    with contextlib.suppress(OSError):
        os.makedirs(locations.state, mode=0o700, exist_ok=True)
    host = Host()
    loaded = load_policy(options, locations, project, host)
    plan = plan_for(loaded.policy, host, locations, project, directory)
    return launch_for(plan, loaded.notices, locations, bare=bare)


def load_policy(
    options: Options,
    locations: Locations,
    project: str,
    host: Host,
    *,
    given: Layer | None = None,
) -> Loaded:
    """The policy for these options; `given` takes the place of the project's own.

    Raises `PolicyError` or `UsageError`.
    """
    policy_file = options.values.get("policy")
    return load(
        project,
        locations,
        explicit=os.path.abspath(str(policy_file)) if policy_file else None,
        given=given,
        overrides=overrides(options),
        seen=host.read,
    )


def plan_for(
    policy: Policy, host: Host, locations: Locations, project: str, directory: str
) -> Plan:
    """The plan of a policy for whoever runs this. Raises `PolicyError` or `UsageError`."""
    root = os.geteuid() == 0
    uid, gid = (INSIDE_ID, INSIDE_ID) if root else (os.getuid(), os.getgid())
    return build(
        policy,
        host,
        project,
        working_directory=directory,
        uid=uid,
        gid=gid,
        user="agent" if root else user_name(),
        home=locations.home,
        environment=dict(os.environ),
    )


def launch_for(
    plan: Plan, notices: Iterable[Notice], locations: Locations, *, bare: bool
) -> dict[str, Any]:
    """The launch of a plan. Raises `UnsupportedError`."""
    store = os.path.join(locations.state, "prepared")
    launch, guarantees = compile_launch(plan, store=store, bare=bare)
    rows = [
        {"name": g.name, "strength": g.strength, "by": g.by, "note": g.note} for g in guarantees
    ]
    record = {
        "hide": encode_patterns(plan.hide),
        "protect": encode_patterns(plan.protect),
        "guarantees": json.dumps(rows),
    }
    egress = _egress(plan) if plan.listeners and not bare else None
    said = tuple((str(notice), notice.remedy) for notice in notices)
    return {
        **launch,
        "state": locations.state,
        "record": record,
        "egress": egress,
        "notices": said,
    }


def _egress(plan: Plan) -> dict[str, Any]:
    """What the broker is told of a session, but for its name: the inside of a JSON object.

    Raises `PolicyError` for rules that contradict each other.
    """
    from casemate.egress.registration import network_as_json
    from casemate.egress.rules import Rules
    from casemate.vault.sources import definition

    Rules(plan.network, plan.secrets)
    network = network_as_json(plan.network)
    secrets = [definition(secret) for secret in plan.secrets]
    told = ("name", "to", "form", "form_name", "own_only")
    fields = {
        "policy": hashlib.sha256(json.dumps(network, sort_keys=True).encode()).hexdigest(),
        "network": network,
        "trust": [os.path.expanduser(rule.path) for rule in plan.network.trust],
        "inspect": plan.trust is not None,
    }
    trust = plan.trust
    return {
        "registration": json.dumps(fields, separators=(",", ":"))[1:-1],
        "listeners": tuple(listener.kind for listener in plan.listeners),
        "trust": trust and (trust.bundle, trust.target, trust.covers, trust.java_stores),
        "home": plan.home,
        "secrets": secrets,
        "told": {
            secret["name"]: json.dumps({key: secret[key] for key in told}) for secret in secrets
        },
    }


def user_name() -> str:
    """The caller's login name; an identity without an entry is called "agent"."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return "agent"


def overrides(options: Options) -> Layer | None:
    """The command line as a layer of policy. Raises `UsageError` or `PolicyError`."""
    values = options.values
    document: dict[str, Any] = {}
    if "workspace" in values:
        document.setdefault("workspace", {})["mode"] = values["workspace"]
    if "tier" in values:
        document["tier"] = values["tier"]
    if "root" in values:
        roots = [os.path.realpath(root) for root in values["root"]]
        document.setdefault("workspace", {})["roots"] = roots
    if "waive" in values:
        document["waive"] = list(values["waive"])
    for line in values.get("set", ()):
        _merge(document, _setting(line), line)
    if "preset" in values:
        document["extends"] = [values["preset"]]
    if not document:
        return None
    return read_document(document, source=COMMAND_LINE, base=os.getcwd())


def _setting(line: str) -> dict[str, Any]:
    """One KEY=VALUE: VALUE as TOML has it, or else as a bare string, so that 2GiB needs no quotes."""
    key, separator, value = line.partition("=")
    if not separator or not key.strip():
        raise UsageError(f"--set takes KEY=VALUE: {line}", hint="--set limits.memory=2GiB")
    for text in (value, json.dumps(value.strip())):
        try:
            return tomllib.loads(f"{key} = {text}")
        except tomllib.TOMLDecodeError:
            continue
    raise UsageError(f"--set takes KEY=VALUE: {line}", hint="--set limits.memory=2GiB")


def _merge(document: dict[str, Any], addition: dict[str, Any], line: str) -> None:
    for key, value in addition.items():
        if isinstance(value, dict) and isinstance(document.get(key, {}), dict):
            _merge(document.setdefault(key, {}), value, line)
        elif isinstance(value, list) and isinstance(document.get(key), list):
            document[key] += value
        else:
            document[key] = value
