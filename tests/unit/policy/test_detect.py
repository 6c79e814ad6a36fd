"""What `casemate init` finds and writes."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from casemate.policy import presets
from casemate.policy.detect import Detected, detect, policy_text
from casemate.policy.flags import flags
from casemate.policy.layers import Ranked, combine
from casemate.policy.patterns import matches
from casemate.policy.reader import read


@pytest.fixture
def project(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([".git/", "pyproject.toml"], ("git", "python")),
        (["package.json", "Cargo.toml", "go.mod"], ("node", "rust", "go")),
        ([".git"], ("git",)),
        (["README.md"], ()),
    ],
)
def test_languages(
    project: Path, tmp_path: Path, names: list[str], expected: tuple[str, ...]
) -> None:
    """Marks at the top of the project decide."""
    for name in names:
        (project / name).mkdir() if name.endswith("/") else (project / name).write_text("")

    assert detect(str(project), str(tmp_path), {}).project == expected


def test_links_and_deep_files_do_not_count(project: Path, tmp_path: Path) -> None:
    """A link out of the project, whatever it leads to, is not followed."""
    (tmp_path / "pyproject.toml").write_text("")
    (project / "pyproject.toml").symlink_to(tmp_path / "pyproject.toml")
    (project / "sub").mkdir()
    (project / "sub/Cargo.toml").write_text("")
    os.mkfifo(project / "package.json")

    assert detect(str(project), str(tmp_path), {}).project == ()


def test_agents(project: Path, tmp_path: Path) -> None:
    """Agents are found on PATH or by their state, but not in the project itself."""
    for path in (tmp_path / "bin/codex", project / "bin/gemini"):
        path.parent.mkdir()
        path.write_text("")
        path.chmod(0o755)
    (tmp_path / ".claude").mkdir()
    environment = {"PATH": f"{tmp_path}/bin:{project}/bin:relative"}

    assert detect(str(project), str(tmp_path), environment).agents == ("codex", "claude")


@pytest.mark.parametrize("languages", [(), ("git",), ("git", "python", "node", "rust", "go")])
@pytest.mark.parametrize("agents", [(), ("codex", "aider")])
def test_the_text_is_a_good_policy(languages: tuple[str, ...], agents: tuple[str, ...]) -> None:
    """It reads back, means what was found, and opens nothing by itself."""
    text = policy_text(Detected(languages, agents))
    policy = combine([Ranked(read(text.encode(), source="casemate.toml", base="/p"))]).policy

    assert all(f"preset {name}" in policy.sources for name in languages)
    assert policy.network.allow == ()
    assert policy.limits == combine([]).policy.limits
    for name in agents:
        line = next(part for part in text.split("\n") if part.startswith("# ext") and name in part)
        other = text.replace(
            text[text.index("\nextends") : text.index("\n", text.index("\nextends") + 1)], ""
        )
        opened = other.replace(line, line[2:])
        layer = read(opened.encode(), source="casemate.toml", base="/p")
        assert combine([Ranked(layer)]).policy.network.allow


def test_presets_are_sound() -> None:
    """Every preset reads, names no path twice, and shows nothing that another one hides."""
    shown: dict[str, str] = {}
    hidden: set[str] = set()
    for name in presets.names():
        layer = presets.load(name)
        rules = layer.settings.get("files.read")
        paths = [rule.path for rule in rules.value] if rules else []  # type: ignore[attr-defined]
        assert len(set(paths)) == len(paths), name
        shown |= dict.fromkeys(paths, name)
        covered = layer.settings.get("files.hide")
        hidden |= {rule.path for rule in covered.value} if covered else set()  # type: ignore[attr-defined]
    for path, secret in itertools.product(shown, hidden):
        assert path != secret, shown[path]
    for path in shown:
        assert path.startswith(("/", "~/"))
        assert not any(path.startswith(f"{secret}/") for secret in hidden - {"~/.claude.json"}), (
            path
        )


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        (".env", True), ("a/.env.local", True), (".env.example", False), ("prod.env", True),
        ("certs/server.pem", True), ("id_rsa", True), ("id_rsa.pub", False), (".ssh/config", True),
        ("k8s/kubeconfig", True), (".aws/credentials", True), ("service-account-x.json", True),
        ("src/credentials/model.py", False), ("environment.py", False), ("keys.py", False),
        ("terraform.tfstate", True), ("README.md", False), (".npmrc", True), ("package.json", False),
        ("x/.docker/config.json", True), ("public/key.pub", False), ("secrets.yaml", True),
    ],
)  # fmt: skip
def test_default_hide(path: str, hidden: bool) -> None:
    """The shipped list hides secrets and not the source code about them."""
    assert bool(matches(combine([]).policy.workspace.hide, path.split("/"), False)) is hidden


@pytest.mark.parametrize(
    ("path", "protected"),
    [
        (".git/config", True), (".git/hooks/pre-commit", True), ("v/sub/.git/hooks/x", True),
        (".git/index", False), (".git/objects/ab/cd", False), (".git/HEAD", False),
        (".git/modules/a/b/config", True), (".git/modules/a/hooks/x", True), ("sub/.git", True),
        (".git/refs/heads/config", False), (".envrc", True), ("a/.envrc", True),
        (".github/workflows/ci.yml", True), ("vendor/x/.github/workflows/ci.yml", True),
        (".vscode/tasks.json", True), (".claude/settings.local.json", True), (".mcp.json", True),
        ("AGENTS.md", True), ("docs/CLAUDE.md", True), (".husky/pre-commit", True),
        ("src/main.py", False), ("Makefile", False), ("casemate.toml", True), (".codex/config.toml", True),
        (".git/worktrees/x/commondir", True), (".git/worktrees/x/HEAD", False),
    ],
)  # fmt: skip
def test_default_protect(path: str, protected: bool) -> None:
    """The shipped list holds back what the host runs by itself, and lets git work."""
    assert bool(matches(combine([]).policy.workspace.protect, path.split("/"), False)) is protected


def test_flags() -> None:
    """Build entry points are flagged with a reason, ordinary source is not."""
    found = matches(flags(), ["sub", "Makefile"], False)

    assert found is not None
    assert "built" in found.origin.key
    assert matches(flags(), [".cargo", "config.toml"], False)
    assert matches(flags(), ["src", "main.py"], False) is None
