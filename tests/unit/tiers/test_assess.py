"""The table of guarantees: what each mode claims, and what stops a launch."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.errors import UnsupportedError
from casemate.plan.model import Plan, Root
from casemate.policy.endpoints import parse_endpoint
from casemate.policy.model import GUARANTEES, Limits, Network, Secret, WorkspaceMode
from casemate.policy.patterns import parse_pattern
from casemate.tiers.guarantees import Guarantee, decide
from casemate.tiers.linux.assess import assess, assess_bare
from casemate.tiers.linux.cgroups import Control
from casemate.tiers.linux.launch import compile_launch, refuse_unenforceable

GROUPS = Control("cgroup v2", (), (), frozenset({"memory", "processes", "cpu"}))
NONE = Control("")
MODES: tuple[WorkspaceMode, ...] = ("overlay", "direct", "readonly")


def plan(mode: WorkspaceMode = "overlay", project: str = "/project") -> Plan:
    """A plan with one root and every limit."""
    return Plan(
        tier="process",
        strict=False,
        project=project,
        working_directory=project,
        home="/home/user",
        user="user",
        steps=(Root(project, project, mode, 0, "the project"),),
        hide=(parse_pattern(".env"),),
        protect=(parse_pattern(".git/hooks"),),
        disk=1 << 30,
        files=1000,
        limits=Limits(memory=1 << 30, processes=10, cpus=1, time=60),
        environment_passed=(),
        environment_set=(),
        kernel_allow=(),
        network=Network(),
        secrets=(),
        waive=(),
        evidence=(),
        sources=(),
    )


def strengths(table: tuple[Guarantee, ...]) -> dict[str, str]:
    """The strength of each guarantee."""
    return {row.name: row.strength for row in table}


@pytest.mark.parametrize(
    ("mode", "control", "bare"),
    [*itertools.product(MODES, (GROUPS, NONE), (False, True))],
)
def test_every_guarantee_once(mode: WorkspaceMode, control: Control, bare: bool) -> None:
    """Each table names every guarantee exactly once, and by what it is held."""
    table = (assess_bare if bare else assess)(plan(mode), control)

    assert sorted(row.name for row in table) == sorted(GUARANTEES)
    assert all(row.by for row in table)
    assert all(row.note for row in table if row.strength in ("absent", "soft")), table


def test_overlay_with_groups_is_hard() -> None:
    """With control groups an overlay session holds everything by the kernel."""
    assert set(strengths(assess(plan(), GROUPS)).values()) == {"hard"}


def test_memory_without_groups_is_soft() -> None:
    """Accounting is not called hard; without a limit there is nothing to hold."""
    unlimited = replace(plan(), limits=replace(plan().limits, memory=None))

    assert strengths(assess(plan(), NONE))["memory"] == "soft"
    assert strengths(assess(unlimited, NONE))["memory"] == "hard"


def test_direct_mode_claims_less() -> None:
    """Live edits waive the layer; new protected files and disk space are only watched."""
    found = strengths(assess(plan("direct"), GROUPS))

    assert found["edits"] == "waived"
    assert {found[name] for name in ("protect", "disk", "file-count")} == {"soft"}


def test_endpoints_need_a_namespace() -> None:
    """Endpoints are held by a network namespace and the broker; without the namespace by nothing."""
    asking = replace(plan(), network=Network(allow=(parse_endpoint("example.com:443"),)))

    assert strengths(assess(asking, GROUPS))["network"] == "hard"
    assert strengths(assess_bare(asking, GROUPS))["network"] == "absent"


def test_bare_mode_admits_its_gaps() -> None:
    """Without namespaces isolation is absent, and so is protection inside a writable project."""
    assert strengths(assess_bare(plan("readonly"), GROUPS))["isolation"] == "absent"
    assert strengths(assess_bare(plan("direct"), GROUPS))["protect"] == "absent"
    assert strengths(assess_bare(plan("readonly"), GROUPS))["protect"] == "hard"


rows = st.lists(
    st.tuples(st.sampled_from(GUARANTEES), st.sampled_from(["hard", "soft", "absent"])),
    unique_by=lambda row: row[0],
)


@given(rows, st.sets(st.sampled_from(GUARANTEES)), st.booleans())
def test_decide(table: list[tuple[str, str]], waived: set[str], strict: bool) -> None:
    """A launch goes on exactly when nothing is lacking that was not waived by name."""
    given_table = tuple(Guarantee(name, strength, "x") for name, strength in table)  # type: ignore[arg-type]
    lacking = {n for n, s in table if s == "absent" or (strict and s == "soft")}
    try:
        decided = decide(given_table, waived=tuple(waived), strict=strict)
    except UnsupportedError as refused:
        missing = lacking - waived
        assert missing
        assert all(f'"{name}"' in refused.allow for name in missing)
        return

    assert lacking <= waived
    assert {row.name for row in decided if row.strength == "waived"} == lacking & waived
    assert [row.name for row in decided] == [name for name, _ in table]


def test_what_cannot_be_enforced_is_refused() -> None:
    """The vm tier, other vaults, and secrets that could go nowhere stop the launch; nothing is ever
    silently left out."""
    with pytest.raises(UnsupportedError, match="vm tier"):
        refuse_unenforceable(replace(plan(), tier="vm"))
    with pytest.raises(UnsupportedError, match="sgx vault"):
        refuse_unenforceable(replace(plan(), vault="sgx"))
    with pytest.raises(UnsupportedError, match="TOKEN"):
        refuse_unenforceable(replace(plan(), secrets=(Secret(name="TOKEN", to=("a.example",)),)))


def test_launch_refuses_a_strict_plan(tmp_path: Path) -> None:
    """A strict plan with only soft guarantees makes no launch."""
    strict = replace(plan("direct", str(tmp_path)), strict=True)
    with pytest.raises(UnsupportedError, match="protect"):
        compile_launch(replace(strict, home=str(tmp_path)))
