"""What a plan contains, and what it refuses."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from conftest import Planner

from casemate.errors import PolicyError, UsageError
from casemate.plan.evidence import holds
from casemate.plan.model import Bind, Directory, File, Mask, Plan, Root, Scratch, Step, Symlink
from casemate.policy.locations import Locations


def at(plan: Plan, path: Path | str) -> Step | None:
    """The step at a path."""
    found = [step for step in plan.steps if step.target == str(path)]
    assert len(found) <= 1
    return found[0] if found else None


def facts(plan: Plan) -> list[tuple[str, tuple[int, ...], bool]]:
    return [(fact.path, fact.signature, fact.content) for fact in plan.evidence]


def make(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_the_default_plan(planner: Planner, home: Path, project: Path) -> None:
    """Toolchain read-only, private home and /tmp, the project as an overlay, /etc by name."""
    plan = planner()

    usr = at(plan, "/usr")
    assert isinstance(usr, Bind)
    assert not usr.writable
    assert at(plan, home) == Scratch(str(home), 0o700, "private home")
    assert at(plan, "/tmp") == Scratch("/tmp", 0o1777, "private temporary files")
    assert plan.roots == (Root(str(project), str(project), "overlay", 0, "the project"),)
    assert isinstance(at(plan, "/etc/passwd"), File)
    assert isinstance(at(plan, "/etc"), Directory)
    assert [step for step in plan.steps if isinstance(step, Bind) and step.writable] == []
    for path in ("/etc/shadow", "/etc/ssh", "/etc/machine-id", "/proc", "/dev", "/sys", "/var/run"):
        assert at(plan, path) is None
    assert plan.working_directory == plan.project == str(project)


def test_every_step_finds_its_parent(planner: Planner, home: Path) -> None:
    """Steps come parents first, and every parent is a step or shown by one."""
    make(home / ".cargo/bin/cargo")
    shown: list[str] = ["/"]
    made = {"/"}
    for step in planner().steps:
        parent = os.path.dirname(step.target)
        in_shown = any(parent == path or parent.startswith(path + "/") for path in shown)
        assert parent in made or in_shown, step
        made.add(step.target)
        if isinstance(step, Bind | Root):
            assert step.source == step.target == os.path.realpath(step.source)
            shown.append(step.target)


def test_merged_usr(planner: Planner) -> None:
    """/bin is what it is on the host: a link or a directory."""
    step = at(planner(), "/bin")

    if os.path.islink("/bin"):
        assert step == Symlink("/bin", os.readlink("/bin"), step.reason if step else "")
    else:
        assert isinstance(step, Bind)


def test_users_inside(planner: Planner) -> None:
    """Only the user, root's name and nobody exist; a user called root is renamed."""
    passwd = at(planner(uid=1234, gid=77), "/etc/passwd")
    assert isinstance(passwd, File)
    assert b"\nada:x:1234:77:ada:" in passwd.content
    assert passwd.content.count(b"\n") == 3

    plan = planner(user="root")
    assert plan.user == "user"
    assert dict(plan.environment_set)["USER"] == "user"
    assert planner(user="x:0:0\nroot").user == "user"


def test_environment(planner: Planner) -> None:
    """Names are passed, only set values stand in the plan, and ours cannot be overridden."""
    plan = planner('[environment]\npass = ["MY_*"]\nset = { FOO = "bar" }')
    values = dict(plan.environment_set)

    assert "MY_*" in plan.environment_passed
    assert "PATH" in plan.environment_passed
    assert values["FOO"] == "bar"
    assert values["CASEMATE"] == "1"
    assert values["HOME"] == plan.home
    assert values["XDG_RUNTIME_DIR"] == "/run/user/1000"
    assert at(plan, "/run/user/1000") == Directory("/run/user/1000", 0o700, "XDG_RUNTIME_DIR")


def test_toolchains_without_their_credentials(planner: Planner, home: Path) -> None:
    """Of ~/.cargo the programs are shown and the token is not."""
    make(home / ".cargo/bin/cargo")
    make(home / ".cargo/credentials.toml", "token")
    make(home / ".ssh/id_ed25519", "key")
    plan = planner()

    assert isinstance(at(plan, home / ".cargo/bin"), Bind)
    assert isinstance(at(plan, home / ".cargo"), Directory)
    assert not [step for step in plan.steps if "credentials" in step.target]
    assert not [step for step in plan.steps if ".ssh" in step.target]


def test_a_linked_toolchain_is_the_same_twice(planner: Planner, home: Path, tmp_path: Path) -> None:
    """A link in the home is a link inside, and what it leads to is bound at its real place."""
    make(tmp_path / "big/pyenv/bin/python")
    (home / ".pyenv").symlink_to("../big/pyenv")
    plan = planner()

    step = at(plan, home / ".pyenv")
    assert isinstance(step, Symlink)
    assert step.destination == "../big/pyenv"
    assert isinstance(at(plan, tmp_path / "big/pyenv"), Bind)


def test_a_linked_home(planner: Planner, tmp_path: Path, project: Path, home: Path) -> None:
    """A home behind a link is private at its real place and reachable by both names."""
    (tmp_path / "alias").symlink_to("home")
    make(home / ".cargo/bin/cargo")
    alias = str(tmp_path / "alias")
    plan = planner(locations=Locations(alias, f"{alias}/.config/casemate", f"{alias}/state"))

    assert plan.home == str(home)
    assert isinstance(at(plan, home), Scratch)
    assert at(plan, alias) == Symlink(alias, "home", "private home")
    assert isinstance(at(plan, home / ".cargo/bin"), Bind)


def test_links_in_a_loop_lead_nowhere(planner: Planner, home: Path) -> None:
    """A loop in place of a toolchain is passed over."""
    (home / ".pyenv").symlink_to(".pyenv2")
    (home / ".pyenv2").symlink_to(".pyenv")

    assert at(planner(), home / ".pyenv") is None


@pytest.mark.parametrize(
    "text",
    ['read = ["~"]', 'read = ["/"]', 'read = ["/etc"]', 'read = ["/proc/self"]', 'write = ["/dev"]']
    + ['read = ["/run"]', 'read = ["/var/run"]', 'read = ["~/missing"]', 'read = ["~/.."]']
    + [
        'read = ["~/.config/casemate"]',
        'write = ["~/.local/state/casemate/x"]',
        'read = ["~/sock"]',
    ],
)
def test_what_is_never_shown(planner: Planner, home: Path, text: str) -> None:
    """The home as a whole, the kernel's places, sockets and casemate's own files are refused."""
    make(home / ".config/casemate/policy.toml")
    make(home / ".local/state/casemate/x")
    with socket.socket(socket.AF_UNIX) as listener:
        directory = os.open(home, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{directory}/sock")
        os.close(directory)
        with pytest.raises(PolicyError) as caught:
            planner(f"[files]\n{text}")

    assert (caught.value.path, caught.value.line) == ("policy.toml", 3)
    assert caught.value.key.startswith("files.")


def test_optional_paths(planner: Planner, home: Path) -> None:
    """A path that need not exist may be missing."""
    plan = planner('[files]\nread = [{ path = "~/missing", optional = true }]')

    assert at(plan, home / "missing") is None


def test_credentials_under_a_wider_rule_are_masked(planner: Planner, home: Path) -> None:
    """Showing ~/.config shows neither the login of gh nor casemate's own policy."""
    make(home / ".config/gh/hosts.yml", "token")
    make(home / ".config/casemate/policy.toml", "version = 1")
    make(home / ".config/app/settings")
    plan = planner('[files]\nread = ["~/.config"]')

    assert isinstance(at(plan, home / ".config"), Bind)
    assert isinstance(at(plan, home / ".config/gh"), Mask)
    assert at(plan, home / ".config/casemate") == Mask(
        str(home / ".config/casemate"), "casemate's own files"
    )


def test_credentials_behind_a_link_are_masked(planner: Planner, home: Path, tmp_path: Path) -> None:
    """A credential directory that is a link is covered at its real place too."""
    make(tmp_path / "data/aws/credentials", "key")
    (home / ".aws").symlink_to(tmp_path / "data/aws")
    plan = planner(f'[files]\nread = ["{tmp_path}/data"]')

    assert isinstance(at(plan, tmp_path / "data/aws"), Mask)


def test_a_hidden_path_named_itself_is_meant(planner: Planner, home: Path) -> None:
    """A rule for exactly the hidden path shows it; one beneath it shows only that."""
    make(home / ".config/gh/hosts.yml", "token")
    make(home / ".config/gh/config.yml")
    exact = planner('[files]\nread = ["~/.config", "~/.config/gh"]')
    beneath = planner('[files]\nread = ["~/.config", "~/.config/gh/config.yml"]')

    assert not isinstance(at(exact, home / ".config/gh"), Mask)
    assert isinstance(at(beneath, home / ".config/gh"), Scratch)
    assert isinstance(at(beneath, home / ".config/gh/config.yml"), Bind)
    assert at(beneath, home / ".config/gh/hosts.yml") is None


def test_rules_add_up(planner: Planner, home: Path) -> None:
    """Write wins over read for the same path, and what is covered already is no step."""
    make(home / "data/out/x")
    make(home / "data/in/x")
    plan = planner('[files]\nread = ["~/data", "~/data/in", "~/data/out"]\nwrite = ["~/data/out"]')
    data, out = at(plan, home / "data"), at(plan, home / "data/out")

    assert isinstance(data, Bind)
    assert not data.writable
    assert isinstance(out, Bind)
    assert out.writable
    assert at(plan, home / "data/in") is None


def test_project_that_is_no_project(planner: Planner, home: Path, tmp_path: Path) -> None:
    """The home, what holds it, system directories, casemate's own and files are refused."""
    make(home / ".config/casemate/x/y")
    make(tmp_path / "file")
    refused = [home, home.parent, "/", "/usr", "/etc", "/usr/lib", "/tmp", "/proc/self", "/dev/shm"]
    refused += [
        home / ".config/casemate/x",
        home / ".config",
        tmp_path / "absent",
        tmp_path / "file",
    ]
    for path in refused:
        with pytest.raises(UsageError):
            planner(directory=path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_unreadable_project(planner: Planner, project: Path) -> None:
    """A project that cannot be read is an error, not an empty sandbox."""
    project.chmod(0)
    try:
        with pytest.raises(UsageError, match="cannot be read"):
            planner()
    finally:
        project.chmod(0o755)


def test_project_behind_a_link(planner: Planner, project: Path, tmp_path: Path) -> None:
    """The project is resolved once; its other name is a link inside."""
    (tmp_path / "alias").symlink_to(project)
    plan = planner(directory=tmp_path / "alias")

    assert plan.project == str(project)
    assert isinstance(at(plan, tmp_path / "alias"), Symlink)


def test_further_roots(planner: Planner, home: Path, project: Path) -> None:
    """Relative roots start at the policy file, and all have the same mode."""
    (home / "work/shared").mkdir()
    plan = planner('[workspace]\nmode = "direct"\nroots = ["../shared"]')

    assert [(root.target, root.index, root.mode) for root in plan.roots] == [
        (str(project), 0, "direct"),
        (str(home / "work/shared"), 1, "direct"),
    ]


@pytest.mark.parametrize("root", ["sub", "..", ".", "~", "/etc", "../absent"])
def test_roots_that_cannot_be(planner: Planner, project: Path, root: str) -> None:
    """Nested roots and places that are no projects name the line that asks for them."""
    (project / "sub").mkdir()
    with pytest.raises(PolicyError) as caught:
        planner(f'[workspace]\nroots = ["{root}"]')

    assert (caught.value.line, caught.value.key) == (3, "workspace.roots[0]")


def test_a_rule_inside_the_project_changes_nothing(planner: Planner, project: Path) -> None:
    """The workspace mode decides about the project, not files.write."""
    (project / "out").mkdir()
    plan = planner(f'[files]\nwrite = ["{project}/out"]')

    assert at(plan, project / "out") is None


def test_working_directory(planner: Planner, project: Path) -> None:
    """It lies in a root, whatever link leads there."""
    (project / "sub").mkdir()
    (project / "out").symlink_to("/usr")

    assert planner(working_directory=str(project / "sub")).working_directory == str(project / "sub")
    for path in (
        "/",
        "/usr",
        str(project / "out"),
        str(project / "absent"),
        str(project) + "-evil",
    ):
        with pytest.raises(UsageError):
            planner(working_directory=path)


def test_missing_tools_are_named(planner: Planner, home: Path) -> None:
    """A directory of PATH that is not shown is noted with the line that would show it."""
    make(home / "odd/bin/tool")
    make(home / ".cargo/bin/cargo")
    plan = planner(environment={"PATH": f"{home}/odd/bin:{home}/.cargo/bin:/usr/bin:bin:/absent"})

    assert plan.notes == (
        '~/odd/bin is on PATH but not shown; to show it: files.read = ["~/odd/bin"]',
    )


def test_evidence_goes_stale(planner: Planner, home: Path, project: Path) -> None:
    """A toolchain that appears, a link that moves or a project replaced makes the plan stale."""
    make(home / ".pyenv/bin/python")
    (home / "pointed").mkdir()
    assert holds(facts(planner()))

    known = facts(planner())
    make(home / ".cargo/bin/cargo")
    assert not holds(known)

    known = facts(planner())
    (home / ".pyenv").rename(home / "elsewhere")
    (home / ".pyenv").symlink_to("pointed")
    assert not holds(known)

    known = facts(planner())
    project.rename(project.parent / "moved")
    assert not holds(known)
    project.mkdir()
    assert not holds(known)


def test_same_facts_same_plan(planner: Planner) -> None:
    """Planning is a function of policy and host."""
    assert planner() == planner()


def test_sources_and_rules_are_carried(planner: Planner) -> None:
    """What the tier needs of the policy is in the plan."""
    plan = planner(
        'tier = "process"\nstrict = true\nwaive = ["cpu"]\n[workspace]\nhide = ["mine"]\n'
        '[network]\nallow = ["a.example"]\n[kernel]\nallow = ["ptrace"]\n[limits]\nprocesses = 5'
    )

    assert (plan.tier, plan.strict, plan.waive, plan.kernel_allow) == (
        "process",
        True,
        ("cpu",),
        ("ptrace",),
    )
    assert plan.hide[-1].text == "mine"
    assert plan.endpoints[0].host == "a.example"
    assert plan.limits.processes == 5
    assert plan.sources[0] == "policy.toml"
