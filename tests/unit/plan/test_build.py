"""From policy and host to plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.fake_host import DIRECTORY, Entry, FakeHost, Link

from casemate.errors import PolicyError, UsageError
from casemate.plan.build import PASSED, build
from casemate.plan.evidence import holds
from casemate.plan.host import Host
from casemate.plan.model import Bind, File, Mask, Plan, Root, Scratch, Step, Symlink
from casemate.policy.model import (
    Environment,
    Files,
    Origin,
    PathRule,
    Policy,
    Workspace,
    WorkspaceMode,
)

HOST: dict[str, Entry] = {
    **dict.fromkeys(
        (
            "/usr/bin",
            "/usr/lib",
            "/usr/lib64",
            "/home/u/src/p/.git",
            "/home/u/src/q",
            "/home/u/.cache/pip",
            "/home/u/.config/gh",
            "/home/u/tools/bin",
            "/opt/tool",
            "/tmp/data",
            "/sys/devices/system/cpu",
            "/home/u/.config/casemate",
        ),
        DIRECTORY,
    ),
    "/bin": Link("usr/bin"),
    "/lib": Link("usr/lib"),
    "/lib64": Link("usr/lib64"),
    "/sbin": DIRECTORY,
    "/var/run": Link("/run"),
    "/etc/localtime": Link("/usr/share/zoneinfo/UTC"),
    "/usr/share/zoneinfo/UTC": b"",
    "/home/u/.gitconfig": b"[user]\nname = U\nemail = u@example.org\n",
}
PROJECT = "/home/u/src/p"


def rules(*paths: str, optional: bool = False) -> tuple[PathRule, ...]:
    return tuple(PathRule(path, Origin("test"), optional) for path in paths)


def policy(
    read: tuple[str, ...] = (),
    write: tuple[str, ...] = (),
    roots: tuple[str, ...] = (),
    hide: tuple[str, ...] = (),
    mode: WorkspaceMode = "overlay",
) -> Policy:
    return Policy(
        files=Files(
            read=rules("/usr", "/etc/localtime", *read), write=rules(*write), hide=rules(*hide)
        ),
        workspace=Workspace(mode=mode, roots=rules(*roots)),
    )


def made(
    chosen: Policy | None = None,
    host: FakeHost | None = None,
    *,
    project: str = PROJECT,
    directory: str = PROJECT,
    home: str = "/home/u",
    environment: Mapping[str, str] = {"PATH": "/usr/bin"},
) -> Plan:
    return build(
        chosen or policy(),
        host or FakeHost(HOST),
        project,
        working_directory=directory,
        uid=1000,
        gid=1000,
        user="u",
        home=home,
        environment=environment,
    )


def steps(plan: Plan) -> dict[str, Step]:
    return {step.target: step for step in plan.steps}


def test_the_smallest_plan() -> None:
    """The system, the project, private places, and what is made: nothing else of the home."""
    found = steps(made())
    assert found["/bin"] == Symlink("/bin", "usr/bin", "default")
    assert isinstance(found["/sbin"], Bind)
    assert found["/usr"] == Bind("/usr", "/usr", False, "test")
    assert found["/etc/localtime"] == Symlink("/etc/localtime", "/usr/share/zoneinfo/UTC", "test")
    assert found[PROJECT] == Root(PROJECT, PROJECT, "overlay", 0, "the project")
    modes = {step.target: step.mode for step in found.values() if isinstance(step, Scratch)}
    assert modes == {
        "/tmp": 0o1777,
        "/var/tmp": 0o1777,
        "/run": 0o755,
        "/run/user/1000": 0o700,
        "/home/u": 0o700,
        "/home/u/src": 0o755,
    }
    files = {step.target for step in found.values() if isinstance(step, File)}
    names = ("passwd", "group", "hosts", "hostname", "nsswitch.conf", "resolv.conf", "gitconfig")
    assert files == {f"/etc/{name}" for name in names}
    assert [target for target in found if target.startswith("/sys")] == ["/sys/devices/system/cpu"]


def check_order(plan: Plan, host: FakeHost) -> None:
    """What the supervisor relies on when it carries the steps out one by one."""
    done: dict[str, Step] = {}
    for step in plan.steps:
        assert step.target not in done, f"two steps for {step.target}"
        assert step.target.startswith("/")
        assert step.target != "/"
        assert not any(later.startswith(step.target + "/") for later in done)
        above = [other for other in done if step.target.startswith(other + "/")]
        assert not any(isinstance(done[other], File | Symlink | Mask) for other in above)
        holder = done[max(above, key=len)] if above else None
        if isinstance(holder, Bind | Root):
            # A mount point in a host directory cannot be created.
            place = host.resolve(step.target)
            assert place.real == step.target
            assert place.kind != "missing" or isinstance(step, Mask)
            assert not isinstance(step, File | Symlink)
        done[step.target] = step


PLACES = (
    "/opt",
    "/opt/tool",
    "/tmp/data",
    "/home/u/.cache",
    "/home/u/.cache/pip",
    "/home/u/.config",
    "/home/u/.config/gh",
    "/home/u/tools",
    "/home/u/tools/bin",
    "/data",
    "/data/x",
    "/data/x/y",
)
LINKS = ("/home/u/l", "/data/l", "/l", "/home/u/tools/l", "/opt/l", "/tmp/l")
some_places = st.lists(st.sampled_from([*PLACES, *LINKS, "/l/x", "~/l/y"]), max_size=5)


@given(
    read=some_places,
    write=some_places,
    hide=some_places,
    links=st.dictionaries(
        st.sampled_from(LINKS), st.sampled_from([*PLACES, *LINKS, "..", "x", "../data"])
    ),
    project=st.sampled_from([PROJECT, "/tmp/data/p", "/opt/tool/p", "/data/x/p", "/l"]),
    mode=st.sampled_from(["overlay", "direct", "readonly"]),
    linked_home=st.booleans(),
)
def test_steps_can_be_carried_out_in_order(
    read: list[str],
    write: list[str],
    hide: list[str],
    links: dict[str, str],
    project: str,
    mode: WorkspaceMode,
    linked_home: bool,
) -> None:
    """Parents come first, no place is used twice, and no mount point must be made on the host."""
    entries: dict[str, Entry] = {**HOST, **dict.fromkeys(PLACES, DIRECTORY)}
    entries |= dict.fromkeys(("/tmp/data/p", "/opt/tool/p", "/data/x/p"), DIRECTORY)
    entries |= {path: Link(destination) for path, destination in links.items()}
    if linked_home:
        entries["/mnt/u"] = DIRECTORY
        entries = {
            path.replace("/home/u", "/mnt/u", 1) if path.startswith("/home/u") else path: entry
            for path, entry in entries.items()
        }
        entries["/home/u"] = Link("../mnt/u")
    host = FakeHost(entries)
    chosen = policy(mode=mode)
    files = Files(
        read=(*chosen.files.read, *rules(*read, optional=True)),
        write=rules(*write, optional=True),
        hide=rules(*hide, optional=True),
    )
    try:
        plan = made(replace(chosen, files=files), host, project=project, directory=project)
    except UsageError:
        return
    check_order(plan, host)
    for step in plan.steps:
        # Nothing of the sandbox may write where casemate keeps its own, nor read it.
        if isinstance(step, Bind) and host.resolve("/home/u/.config/casemate").real.startswith(
            step.target + "/"
        ):
            assert not step.writable
            assert isinstance(steps(plan)[host.resolve("/home/u/.config/casemate").real], Mask)


def test_a_real_host_gives_the_same_plan_twice(project: Path, home: Path) -> None:
    """On this machine: the evidence holds, the plan repeats, and a new file makes it stale."""

    def now() -> Plan:
        return build(
            Policy(files=Files(read=rules("/usr", "/etc/ssl", "~/later", optional=True))),
            Host(),
            str(project),
            working_directory=str(project),
            uid=1000,
            gid=1000,
            user="u",
            home=str(home),
            environment={},
        )

    plan = now()
    facts = [(e.path, e.signature, e.content) for e in plan.evidence]
    assert holds(facts)
    assert now() == plan
    (home / "later").mkdir()
    assert not holds(facts)
    assert now() != plan


def test_a_changed_git_identity_makes_a_plan_stale(project: Path, home: Path) -> None:
    """The made /etc/gitconfig follows the user's own."""
    plan = build(
        Policy(),
        Host(),
        str(project),
        working_directory=str(project),
        uid=1000,
        gid=1000,
        user="u",
        home=str(home),
        environment={},
    )
    (home / ".gitconfig").write_text("[user]\n\tname = Someone Else\n")
    assert not holds((e.path, e.signature, e.content) for e in plan.evidence)


def test_a_project_in_tmp_lies_on_the_private_one() -> None:
    """The scratch directory first, the project into it."""
    host = FakeHost({**HOST, "/tmp/data/p": DIRECTORY})
    targets = [step.target for step in made(host=host, project="/tmp/data/p").steps]
    assert targets.index("/tmp") < targets.index("/tmp/data/p")


def test_a_rule_or_root_beneath_a_hidden_path_shows_that_alone() -> None:
    """Its siblings stay out of sight."""
    host = FakeHost({**HOST, "/opt/tool/p": DIRECTORY, "/home/u/.config/gh/hosts": b""})
    chosen = policy(
        read=("/opt", "~/.config", "~/.config/gh/hosts"), hide=("/opt/tool", "~/.config/gh")
    )
    plan = made(chosen, host, project="/opt/tool/p")
    check_order(plan, host)
    found = {target: type(step) for target, step in steps(plan).items()}
    assert (found["/opt"], found["/opt/tool"], found["/opt/tool/p"]) == (Bind, Scratch, Root)
    assert (found["/home/u/.config/gh"], found["/home/u/.config/gh/hosts"]) == (Scratch, Bind)


def test_casemates_own_directory_is_covered_in_a_readonly_root() -> None:
    """A project around it is looked at without it."""
    found = steps(made(policy(mode="readonly"), project="/home/u/.config"))
    assert isinstance(found["/home/u/.config/casemate"], Mask)


def test_own_directories_follow_the_environment() -> None:
    """XDG variables move them, and the protection with them."""
    host = FakeHost({**HOST, "/opt/tool/casemate": DIRECTORY})
    with pytest.raises(PolicyError, match="casemate's own"):
        made(policy(write=("/opt/tool",)), host, environment={"XDG_STATE_HOME": "/opt/tool"})


def test_a_home_in_a_system_directory_is_moved() -> None:
    """A service user's home, or /, cannot be made private: the sandbox gets another."""
    for home in ("/", "/usr/bin"):
        plan = made(home=home)
        assert plan.home == "/home/u"
        assert dict(plan.environment_set)["HOME"] == "/home/u"
        assert isinstance(steps(plan)["/home/u"], Scratch)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (f"{PROJECT}/.git", f"{PROJECT}/.git"),
        ("/home/u/src", PROJECT),
        ("/nowhere", PROJECT),
        ("/home/u/src/q", PROJECT),
    ],
)
def test_the_working_directory_is_in_a_root(wanted: str, expected: str) -> None:
    """One outside becomes the project."""
    assert made(directory=wanted).working_directory == expected


def test_the_environment_holds_no_secret_by_itself() -> None:
    """Only names that choose a language, look or place are passed; the rest is set."""
    chosen = replace(
        policy(), environment=Environment(passed=("EXTRA", "PATH"), values=(("A", "b"),))
    )
    plan = made(chosen, environment={"TMPDIR": "/x", "AWS_SECRET_ACCESS_KEY": "s"})
    assert plan.environment_passed == (*PASSED, "EXTRA")
    assert not any("*" in name for name in PASSED)
    values = dict(plan.environment_set)
    assert values["TMPDIR"] == "/tmp"
    assert values["PATH"].startswith("/usr/local/bin:")
    assert values["CASEMATE"] == "1"
    assert values["XDG_RUNTIME_DIR"] == "/run/user/1000"
    assert values["A"] == "b"
    assert "s" not in values.values()
    assert "TMPDIR" not in dict(made().environment_set)


def test_programs_that_are_not_visible_are_noted() -> None:
    """A directory of PATH outside, with the line that would show it."""
    plan = made(environment={"PATH": "/usr/bin:/bin:/home/u/tools/bin:/none:rel"})
    assert plan.notes == (
        "/home/u/tools/bin of PATH is not visible inside; to show it: files.read = "
        + '["/home/u/tools/bin"]',
    )


def test_too_many_steps_are_refused() -> None:
    """Before the supervisor would refuse them, and with a way out."""
    places = [f"/data/{number}" for number in range(420)]
    host = FakeHost({**HOST, **dict.fromkeys(places, DIRECTORY)})
    with pytest.raises(UsageError, match="more than the 400") as caught:
        made(policy(read=tuple(places)), host)
    assert caught.value.hint


@pytest.mark.parametrize("mode", ["overlay", "direct", "readonly"])
def test_a_git_directory_outside_becomes_part_of_the_plan(mode: WorkspaceMode) -> None:
    """As roots after the user's, in their mode, with the safe parts read-only."""
    common = "/home/u/r/.git"
    host = FakeHost(
        {
            **HOST,
            "/home/u/w/.git": f"gitdir: {common}/worktrees/w\n".encode(),
            f"{common}/worktrees/w/gitdir": b"/home/u/w/.git\n",
            f"{common}/worktrees/w/commondir": b"../..\n",
            f"{common}/HEAD": b"",
            f"{common}/config": b"",
            **dict.fromkeys((f"{common}/{n}" for n in ("objects", "refs", "hooks")), DIRECTORY),
        }
    )
    # A user's own rule for it does not take the place of the root.
    plan = made(policy(read=(common,), mode=mode), host, project="/home/u/w")
    check_order(plan, host)
    found = steps(plan)
    assert [root.index for root in plan.roots] == list(range(len(plan.roots)))
    assert {root.mode for root in plan.roots} == {mode}
    if mode == "overlay":
        assert isinstance(found[common], Root)
        assert found[f"{common}/hooks"] == Bind(
            f"{common}/hooks", f"{common}/hooks", False, "git directory of the project"
        )
        assert "/commondir" in [pattern.text for pattern in plan.protect]
    else:
        assert found[common] == Bind(common, common, False, "git directory of the project")


def test_a_planted_git_file_is_noted() -> None:
    """It opens nothing, and the user learns why git will not work inside."""
    host = FakeHost(
        {**HOST, "/home/u/w/.git": b"gitdir: /home/u/.ssh\n", "/home/u/.ssh/id": b"key"}
    )
    plan = made(host=host, project="/home/u/w")
    assert len(plan.roots) == 1
    assert "/home/u/.ssh" not in steps(plan)
    assert plan.notes[0].startswith("/home/u/w/.git is not followed: ")


def test_a_part_of_a_repository_is_noted() -> None:
    """git does not work without the directory above: the user learns which."""
    host = FakeHost({**HOST, f"{PROJECT}/docs": DIRECTORY})
    assert f"-C {PROJECT}" in made(host=host, project=f"{PROJECT}/docs").notes[0]
    assert made().notes == ()
