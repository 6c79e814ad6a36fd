"""Plan -> launch: everything `open_session` needs, as plain values that can be cached.

A launch holds only numbers, strings, bytes, tuples and dicts, so that the start-up path can load
it from a file with `marshal` and import none of the modules that made it.
"""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Set as AbstractSet

from casemate.errors import UnsupportedError
from casemate.plan.model import (
    Bind,
    Directory,
    File,
    Mask,
    Plan,
    Root,
    Scratch,
    Step,
    Symlink,
)
from casemate.plan.seccomp import compile_filter
from casemate.policy.model import Pattern
from casemate.supervisor.protocol import Limit, limits, string, u8, u32
from casemate.tiers.guarantees import Guarantee, decide
from casemate.tiers.linux.assess import assess, assess_bare
from casemate.tiers.linux.cgroups import Control, find, sweep
from casemate.tiers.linux.lighten import lighten
from casemate.tiers.linux.open import ARCHIVE, BARE, ROOT
from casemate.tiers.linux.prepared import with_prepared_etc

INSIDE_ID = 1000
"""User and group inside when casemate was started as root."""

SCRATCH_FILES = 100_000
LISTENERS = {"tcp": 0, "proxy": 0, "names": 0, "names-udp": 1}
MODES = {"overlay": 0, "direct": 1, "readonly": 2}
Launch = dict[str, object]


def compile_launch(
    plan: Plan, *, store: str = "", bare: bool = False
) -> tuple[Launch, tuple[Guarantee, ...]]:
    """The launch for a plan and the guarantees it will hold.

    `store` is a directory for what can be made once and used by every session; `bare` is the weaker mode for hosts that refuse namespaces. Raises `UnsupportedError` when a guarantee cannot be held here and was not waived, or when the
    plan asks for what this release cannot enforce.
    """
    refuse_unenforceable(plan)
    control = find(plan.limits)
    sweep(control)
    modes = {root.mode for root in plan.roots}
    if bare:
        refuse_overlay(modes)
        if plan.secrets:
            raise UnsupportedError(
                "without namespaces no connection can be led to the broker, which puts secrets in",
                hint="`casemate doctor` names the host setting in the way and its remedy",
            )
    table = assess_bare(plan, control) if bare else assess(plan, control)
    guarantees = decide(table, waived=plan.waive, strict=plan.strict)
    root = os.geteuid() == 0
    steps, evidence = lighten(plan.steps, plan.evidence)
    if store and not bare:
        steps, more = with_prepared_etc(steps, store)
        evidence += more
    soft_memory = plan.limits.memory if "memory" not in control.enforced else None
    launch: Launch = {
        "evidence": tuple((e.path, e.signature, e.content) for e in evidence),
        "project": plan.project,
        "directory": plan.working_directory,
        "roots": tuple((item.index, item.source, item.mode) for item in plan.roots),
        "flags": ARCHIVE | (BARE if bare else 0) | (ROOT if root else 0),
        "inside": (INSIDE_ID, INSIDE_ID) if root else (os.getuid(), os.getgid()),
        "caps": (
            plan.disk,
            plan.files,
            plan.limits.scratch,
            SCRATCH_FILES,
            round(plan.limits.time * 1000) if plan.limits.time else 0,
            soft_memory or 0,
            plan.disk if "direct" in modes else 0,
            plan.files if "direct" in modes else 0,
        ),
        "groups": tuple((group.directory, group.settings) for group in control.groups),
        "wrapper": control.wrapper,
        "listeners": 0 if bare else len(plan.listeners),
        "tail": _tail(plan, control, modes, bare),
        "steps": _steps(plan, plan.steps if bare else steps),
        "environment_passed": plan.environment_passed,
        "environment_set": plan.environment_set,
        "output": plan.limits.output or 0,
        "guarantees": tuple((g.name, g.strength, g.by, g.note) for g in guarantees),
        "tier": "process",
        "sources": plan.sources,
    }
    return launch, guarantees


def refuse_unenforceable(plan: Plan) -> None:
    """Raises `UnsupportedError` for what the policy asks and this release cannot do yet."""
    if plan.tier == "vm":
        raise UnsupportedError(
            "the vm tier is not in this release",
            allow='tier = "process"',
        )
    if plan.vault not in ("auto", "software"):
        raise UnsupportedError(
            f"the {plan.vault} vault is not in this release", allow='vault = "software"'
        )
    refuse_useless(plan)


def refuse_useless(plan: Plan) -> None:
    """Raises `UnsupportedError` for secrets that could never be put in."""
    for secret in plan.secrets:
        if not plan.network.allow:
            raise UnsupportedError(
                f"the secret {secret.name} belongs to {', '.join(secret.to)}, and no endpoint is "
                "allowed",
                allow=f'network.allow = ["{secret.to[0]}"]',
            )


def _steps(plan: Plan, steps: tuple[Step, ...]) -> tuple[int, bytes]:
    """How many steps, and the steps themselves; a session may add some of its own."""
    owned = owned_below(plan)
    return len(steps), b"".join([_step(step, owned) for step in steps])


def _tail(plan: Plan, control: Control, modes: AbstractSet[str], bare: bool) -> bytes:
    """The part of the launch specification before the steps that is the same for every session."""
    pin = plan.limits.cpus is not None and "cpu" not in control.enforced
    mask = _processor_mask(plan.limits.cpus) if pin and plan.limits.cpus is not None else b""
    architecture = "aarch64" if platform.machine() == "aarch64" else "x86_64"
    program = compile_filter(
        architecture,
        plan.kernel_allow,
        direct="direct" in modes,
        pin_cpus=bool(mask),
        no_sockets=bare,
    )
    # Where hiding was waived the patterns are left out: the supervisor refuses every match.
    hide = () if bare and "hide" in plan.waive else plan.hide
    listeners = () if bare else plan.listeners
    return b"".join(
        (
            string(mask),
            string(program),
            limits(_resource_limits(plan, control, modes)),
            u32(len(listeners)),
            *(u8(LISTENERS[one.kind]) + one.port.to_bytes(2, "little") for one in listeners),
            _patterns(hide),
            _patterns(plan.protect),
        )
    )


def refuse_overlay(modes: AbstractSet[str]) -> None:
    """Raises `UnsupportedError`: without namespaces there is no copy-on-write layer."""
    if "overlay" in modes:
        raise UnsupportedError(
            "this machine refuses namespaces, and without them there is no copy-on-write layer",
            allow='workspace.mode = "direct"  (or "readonly")',
            hint="`casemate doctor` names the host setting in the way and its remedy",
        )
    if os.geteuid() == 0:
        raise UnsupportedError(
            "root without the right to create namespaces cannot be confined",
            hint="run casemate as an ordinary user, or give the container CAP_SYS_ADMIN",
        )


def _processor_mask(cpus: float) -> bytes:
    """A CPU set of as many whole processors as asked for, at least one. sched_setaffinity(2)"""
    allowed = sorted(os.sched_getaffinity(0))
    count = max(1, min(len(allowed), int(cpus)))
    bits = sum(1 << processor for processor in allowed[-count:])
    size = (max(allowed) // 64 + 1) * 8
    return bits.to_bytes(size, "little")


def _resource_limits(plan: Plan, control: Control, modes: AbstractSet[str]) -> list[Limit]:
    wanted: list[tuple[int, int]] = []
    if plan.limits.open_files is not None:
        wanted.append((resource.RLIMIT_NOFILE, plan.limits.open_files))
    if plan.limits.processes is not None:
        wanted.append((resource.RLIMIT_NPROC, plan.limits.processes + 2))
    if "readonly" not in modes:
        wanted.append((resource.RLIMIT_FSIZE, plan.disk))
    if plan.limits.memory is not None and "memory" not in control.enforced:
        wanted.append((resource.RLIMIT_DATA, plan.limits.memory))
    # 1 is a value of its own: it stops even a core_pattern that is a pipe. core(5)
    result: list[Limit] = [(resource.RLIMIT_CORE, 1, 1)]
    for number, value in wanted:
        hard = resource.getrlimit(number)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        result.append((number, value, value))
    return result


def _patterns(patterns: tuple[Pattern, ...]) -> bytes:
    packed = [u32(len(patterns))]
    for pattern in patterns:
        flags = (1 if pattern.negated else 0) | (2 if pattern.directory_only else 0)
        packed += [u8(flags), u8(len(pattern.segments))]
        packed += [string(os.fsencode(segment)) for segment in pattern.segments]
    return b"".join(packed)


def owned_below(plan: Plan) -> str:
    """The directory whose contents the sandbox sees as its own when started as root; "" for none.

    Root's files outside the system directories mean the sandbox as a user's own would mean theirs.
    """
    owner = os.stat(plan.project).st_uid
    return plan.home if os.geteuid() == 0 and os.stat(plan.home).st_uid == owner else ""


def _step(step: Step, owned: str) -> bytes:
    target = string(os.fsencode(step.target))
    match step:
        case Directory():
            return u8(1) + u32(step.mode) + target
        case Symlink():
            return u8(2) + target + string(os.fsencode(step.destination))
        case File():
            return u8(3) + u32(step.mode) + target + string(step.content)
        case Bind():
            mapped = bool(owned) and step.target.startswith(owned + "/")
            directory = os.path.isdir(step.source)
            flags = u8(step.writable | mapped << 1 | directory << 2)
            return u8(4) + flags + string(os.fsencode(step.source)) + target
        case Scratch():
            return u8(5) + u32(step.mode) + target
        case Root():
            head = u8(6) + u8(MODES[step.mode]) + u8(step.index)
            return head + string(os.fsencode(step.source)) + target
        case Mask():
            return u8(7) + target
