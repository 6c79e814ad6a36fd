"""The supervisor's pattern matcher agrees with the policy's, and both with git."""

from __future__ import annotations

import os
import platform
import struct
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.support import tree
from tests.support.git import UNSETTLED

from casemate.errors import PolicyError
from casemate.policy.model import Pattern
from casemate.policy.patterns import matches, parse_pattern
from casemate.supervisor.protocol import string

pytestmark = pytest.mark.needs("zig")

Question = tuple[list[bytes], bool]
Ask = Callable[[list[Pattern], list[Question]], list[bool]]

NAME = st.text(alphabet="abx.-!]* \\ä", min_size=1, max_size=4).filter(
    lambda name: name not in (".", "..", ".git")
)
PATH = st.tuples(st.lists(NAME, min_size=1, max_size=5), st.booleans())
PIECE = st.sampled_from(
    ["a", "b", "x", ".", "-", "*", "**", "?", "/", "/**/", "**/", "/**", "[ab]", "[!a]", "[^b]"]
    + ["[a-x]", "[]-]", "\\a", "\\*", "[[:alpha:]]", "[[:punct:]x]", "]", "!", " ", "[!]a]"]
    + ["[a-]", "[x-a]", "[\\]]", "ä", "*.", "[*]", "\\\\"]
)
PATTERNS = st.lists(st.lists(PIECE, min_size=1, max_size=7).map("".join), min_size=1, max_size=6)


def relaxed(examples: int) -> settings:
    """So many examples, of functions that take fixtures."""
    return settings(max_examples=examples, suppress_health_check=list(HealthCheck))


def parsed(texts: list[str]) -> list[Pattern]:
    """The texts that are good patterns."""
    good = []
    for text in texts:
        try:
            good.append(parse_pattern(text))
        except PolicyError:
            continue
    return good


def encode(patterns: list[Pattern], questions: list[Question]) -> bytes:
    """One request of match_paths.zig."""
    packed = [struct.pack("<I", len(patterns))]
    for pattern in patterns:
        flags = pattern.negated | pattern.directory_only << 1
        packed.append(bytes((flags, len(pattern.segments))))
        packed += [string(os.fsencode(segment)) for segment in pattern.segments]
    packed.append(struct.pack("<I", len(questions)))
    for components, is_directory in questions:
        packed.append(bytes((is_directory, len(components))))
        packed += map(string, components)
    payload = b"".join(packed)
    return struct.pack("<I", len(payload)) + payload


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Asks the supervisor's matcher: patterns and paths in, verdicts out."""
    directory = tmp_path_factory.mktemp("matcher")
    program = directory / "match_paths"
    given_compiler = os.environ.get("CASEMATE_ZIG", "")
    zig = [given_compiler] if given_compiler else [sys.executable, "-m", "ziglang"]
    subprocess.run(
        [
            *(
                *zig,
                "build-exe",
                "-target",
                f"{platform.machine()}-linux-none",
                "-mcpu",
                "baseline",
            ),
            *("-O", "ReleaseSafe", "-fstrip", "-fsingle-threaded"),
            *("--dep", "pattern", f"-Mroot={Path(__file__).with_name('match_paths.zig')}"),
            f"-Mpattern={tree.ROOT / 'native/supervisor/pattern.zig'}",
            *("--cache-dir", directory, "--global-cache-dir", directory, f"-femit-bin={program}"),
        ],
        check=True,
        cwd=directory,
    )
    process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert process.stdin and process.stdout

    def answer(patterns: list[Pattern], questions: list[Question]) -> list[bool]:
        assert process.stdin and process.stdout
        process.stdin.write(encode(patterns, questions))
        verdicts = b""
        while len(verdicts) < len(questions):
            piece = process.stdout.read(len(questions) - len(verdicts))
            assert piece, "the matcher ended"
            verdicts += piece
        return [verdict == ord("1") for verdict in verdicts]

    yield answer
    process.stdin.close()
    process.stdout.close()
    assert process.wait() == 0


def reference(patterns: list[Pattern], question: Question) -> bool:
    """What the policy's matcher says."""
    components, is_directory = question
    return matches(patterns, components, is_directory) is not None


@relaxed(300)
@given(PATTERNS, st.lists(PATH, min_size=1, max_size=20))
def test_like_the_policy(ask: Ask, texts: list[str], paths: list[tuple[list[str], bool]]) -> None:
    """On any patterns and paths both matchers give the same verdicts."""
    patterns = parsed(texts)
    questions = [([os.fsencode(name) for name in path], kind) for path, kind in paths]

    assert ask(patterns, questions) == [reference(patterns, question) for question in questions]


@relaxed(100)
@given(PATTERNS, st.lists(st.lists(st.binary(min_size=1, max_size=5), min_size=1, max_size=3)))
def test_any_bytes(ask: Ask, texts: list[str], paths: list[list[bytes]]) -> None:
    """Names may be any bytes, UTF-8 or not."""
    patterns = parsed(texts)
    questions = [
        ([name.replace(b"\0", b"0").replace(b"/", b"_") for name in path], False)
        for path in paths
        if path
    ]

    assert ask(patterns, questions) == [reference(patterns, question) for question in questions]


@pytest.mark.needs("git")
@relaxed(25)
@given(PATTERNS, st.lists(st.lists(NAME, min_size=1, max_size=4), min_size=1, max_size=12))
def test_like_git(ask: Ask, tmp_path: Path, texts: list[str], paths: list[list[str]]) -> None:
    """`git check-ignore` gives the same verdicts on files that exist."""
    assume(not any(map(UNSETTLED.search, texts)))
    repository = tmp_path / os.urandom(8).hex()
    subprocess.run(["git", "init", "-q", repository], check=True)
    patterns = parsed(texts)
    lines = "".join(f"{pattern.text}\n" for pattern in patterns)
    (repository / ".git/info/exclude").write_bytes(os.fsencode(lines))
    files = []
    for path in paths:
        target = repository.joinpath(*path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        except OSError:
            continue
        if target.is_file():
            files.append("/".join(path))
    files = sorted(set(files))
    names = b"\0".join(map(os.fsencode, files))
    run = subprocess.run(
        ["git", "check-ignore", "--no-index", "-z", "--stdin"],
        input=names, capture_output=True, cwd=repository, check=False,
    )  # fmt: skip
    assert run.returncode in (0, 1), run.stderr
    ignored = {name for name in run.stdout.split(b"\0") if name}
    questions: list[Question] = [(os.fsencode(name).split(b"/"), False) for name in files]

    assert ask(patterns, questions) == [os.fsencode(name) in ignored for name in files]


def test_the_shipped_patterns(ask: Ask) -> None:
    """The default hide and protect patterns mean the same to both matchers on awkward names."""
    shipped = tomllib.loads((tree.PACKAGE / "policy/presets/default.toml").read_text())
    names = [".env", ".env.example", "a.pem", ".git", "config", "hooks", "id_rsa.pub", ".npmrc"]
    questions: list[Question] = [
        ([first.encode(), second.encode()], kind)
        for first in names
        for second in names
        for kind in (False, True)
    ]
    for key in ("hide", "protect"):
        patterns = parsed(shipped["workspace"][key])
        for part in (patterns[at : at + 60] for at in range(0, len(patterns), 60)):
            assert ask(part, questions) == [reference(part, q) for q in questions]
