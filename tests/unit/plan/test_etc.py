"""The files made for a sandbox."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.fake_host import FakeHost

from casemate.plan.etc import account_name, git_configuration, read_git_configuration, synthesised

CONFIGURATION = b"""\
[credential]
\thelper = !cat /secret
[user "work"]
\temail = wrong@example.org
[user]
\tname = "A \\"B\\" C" ; comment
\temail = a@example.org
\tsigningkey = SECRET
[include]
\tpath = ~/other
"""


def test_of_the_users_git_configuration_only_the_name_is_taken() -> None:
    """Helpers, includes, keys and named sections stay out; the roots are safe directories."""
    host = FakeHost(
        {"/home/u/.gitconfig": CONFIGURATION, "/home/u/other": b"[user]\nname=Included\n"}
    )
    text = git_configuration(host, "/home/u", ["/home/u/p"], {})
    assert read_git_configuration(text.encode()) == {
        "user.name": 'A "B" C',
        "user.email": "a@example.org",
        "safe.directory": "/home/u/p/*",
    }
    assert "SECRET" not in text
    assert "helper" not in text


def test_the_home_configuration_wins_over_the_xdg_one() -> None:
    """As in git: ~/.gitconfig is read last."""
    host = FakeHost(
        {
            "/home/u/.gitconfig": b"[user]\nname = Home\n",
            "/x/git/config": b"[user]\nname = Xdg\nemail = x@example.org\n",
        }
    )
    text = git_configuration(host, "/home/u", [], {"XDG_CONFIG_HOME": "/x"})
    found = read_git_configuration(text.encode())
    assert (found["user.name"], found["user.email"]) == ("Home", "x@example.org")


@pytest.mark.parametrize(
    "content",
    [
        b"[user]\n\tname = one\\\n two\n",
        b'[user] name = "x # y" # z\n',
        b"[USER]\nNAME = tail  \n",
        b"[user]\nname\n",
        b"[user]\nname = a\nname = b\n",
        b"[user]\nname = a\\tb\n",
        b'[user]\nname = ""\n',
        b"[user.sub]\nname = old\n",
        b"\xef\xbb\xbf[user]\nname = bom\n",
    ],
)
def test_reads_as_git_does(content: bytes, tmp_path: Path) -> None:
    """The same value as `git config`, except that control characters make it no value."""
    file = tmp_path / "config"
    file.write_bytes(content)
    command = ["git", "config", "-f", str(file), "--get", "user.name"]
    said = subprocess.run(command, capture_output=True, check=False).stdout.decode()
    expected = said.removesuffix("\n")
    assert read_git_configuration(content).get("user.name", "") == (
        "" if "\t" in expected else expected
    )


@given(st.binary(max_size=200))
def test_hostile_configuration_never_breaks_out(content: bytes) -> None:
    """Whatever a user's file holds, what is made of it has these keys alone."""
    host = FakeHost({"/home/u/.gitconfig": b"[user]\nname = " + content})
    text = git_configuration(host, "/home/u", ["/p"], {})
    keys = {"user.name", "user.email", "safe.directory"}
    made = read_git_configuration(text.encode(errors="surrogateescape"))
    assert set(made) <= keys
    assert made["safe.directory"] == "/p/*"


@given(st.text(min_size=1, max_size=30))
def test_a_root_of_any_name_is_quoted(name: str) -> None:
    """A directory name cannot add settings."""
    root = "/" + name.replace("\0", "").replace("/", "")
    text = git_configuration(FakeHost({}), "/home/u", [root], {})
    assert text.count("\n[") == 0
    assert len(text.splitlines()) >= 3
    lines = text.split("\n")
    assert lines[0] == "[safe]"
    assert all(line.startswith('\tdirectory = "') and line.endswith('"') for line in lines[1:3])


def test_accounts_name_one_user(tmp_path: Path) -> None:
    """The user inside and nobody: no other account, and no way to add one through a home."""
    made = synthesised(
        FakeHost({"/bin/zsh": b""}),
        user="u",
        uid=1000,
        gid=1001,
        home="/home/x\nroot::0:0::/:/bin/sh",
        caller_home="/home/u",
        roots=[],
        environment={"SHELL": "/bin/zsh"},
        online=False,
    )
    files = {file.target: file.content.decode() for file in made}
    lines = files["/etc/passwd"].splitlines()
    assert lines[0] == "u:x:1000:1001:u:/tmp:/bin/zsh"
    assert [line.split(":")[0] for line in lines] == ["u", "nobody"]
    assert "nameserver" not in files["/etc/resolv.conf"]
    assert files["/etc/hosts"].startswith("127.0.0.1 localhost")


@pytest.mark.parametrize("name", ["root", "nobody", "", "a:b", "a\n", "x" * 40, "Ünïcode"])
def test_names_that_cannot_stand_in_passwd_become_agent(name: str) -> None:
    """The super-user's name among them: nothing inside is the super-user."""
    assert account_name(name) == "agent"


def test_ordinary_names_stay() -> None:
    """Also those of directory services."""
    assert account_name("jane.doe") == "jane.doe"
