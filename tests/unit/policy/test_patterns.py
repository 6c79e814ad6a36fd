"""Patterns mean exactly what git means by them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pathspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.support.git import EMPTY_END, UNSETTLED

from casemate.errors import PolicyError
from casemate.policy.model import Pattern
from casemate.policy.patterns import Matcher, matches, parse_pattern

NAME = st.text(alphabet="ab.-!]x", min_size=1, max_size=3).filter(lambda n: n not in (".", ".."))
PATH = st.lists(NAME, min_size=1, max_size=4)
PIECE = st.sampled_from(
    ["a", "b", "x", ".", "-", "*", "**", "?", "/", "/**/", "**/", "[ab]", "[!a]", "[a-x]", "[]-]"]
    + ["\\a", "\\*", "[[:alpha:]]", "]", "!", " ", "[!]a]", "[a-]", "[x-a]"]
)
PATTERN = st.lists(PIECE, min_size=1, max_size=6).map("".join)


def parse_all(texts: list[str]) -> list[Pattern]:
    """The texts that are good patterns, parsed."""
    good: list[Pattern] = []
    for text in texts:
        try:
            good.append(parse_pattern(text))
        except PolicyError:
            continue
    return good


@pytest.mark.parametrize(
    ("text", "segments", "negated", "directory_only"),
    [
        (".env", ("**", ".env"), False, False),
        ("/.env", (".env",), False, False),
        ("!keep/", ("**", "keep"), True, True),
        (".git/config", (".git", "config"), False, False),
        ("**/.git/hooks/", ("**", ".git", "hooks"), False, True),
        ("a/**", ("a", "**"), False, False),
        ("**", ("**", "*"), False, False),
        ("*.pem  ", ("**", "*.pem"), False, False),
        ("é", ("**", "é"), False, False),
    ],
)
def test_split(text: str, segments: tuple[str, ...], negated: bool, directory_only: bool) -> None:
    """A pattern is split into anchored segments and its two flags."""
    pattern = parse_pattern(text)

    assert (pattern.segments, pattern.negated, pattern.directory_only) == (
        segments,
        negated,
        directory_only,
    )


@pytest.mark.parametrize(
    "text",
    ["", "/", "!", "#x", "a//b", "./a", "../a", "a/..", "a[", "[a/b]", "a\\", "[[:word:]]"]
    + ["a\0", "a\nb", "a" * 2000, " ", "!/", "a\\/b"],
)
def test_patterns_that_never_match_are_refused(text: str) -> None:
    """What git would silently never match is an error here."""
    with pytest.raises(PolicyError):
        parse_pattern(text)


@pytest.mark.parametrize(
    ("patterns", "path", "is_directory", "expected"),
    [
        ([".env"], "sub/.env", False, True),
        (["/.env"], "sub/.env", False, False),
        (["build/"], "build", False, False),
        (["build/"], "build", True, True),
        (["build/"], "build/x/y", False, True),
        (["build/", "!build/keep"], "build/keep", False, True),
        (["build/*", "!build/keep"], "build/keep", False, False),
        ([".env.*", "!.env.example"], ".env.example", False, False),
        (["a/**/b"], "a/b", False, True),
        (["a/**/b"], "a/x/y/b", False, True),
        (["a/**"], "a", True, False),
        (["a/**"], "a/x", False, True),
        ([".git", "!.git/"], ".git", True, False),
        ([".git", "!.git/"], "vendor/.git", False, True),
    ],
)
def test_lists(patterns: list[str], path: str, is_directory: bool, expected: bool) -> None:
    """The last match decides, and nothing below a matched directory comes back."""
    parsed = [parse_pattern(text) for text in patterns]

    assert bool(matches(parsed, path.split("/"), is_directory)) is expected


def test_names_are_bytes() -> None:
    """A name that is not UTF-8 matches like any other."""
    assert matches([parse_pattern("*.pem")], [b"\xff.pem"], False)
    assert matches([parse_pattern("*.pem")], [os.fsdecode(b"\xff.pem")], False)
    assert matches([parse_pattern("é")], ["é"], False)


def test_hostile_names_cannot_blow_up_the_search() -> None:
    """Many stars against a long near miss stay cheap (a backtracking search would not end)."""
    stars = [parse_pattern("*a" * 30 + "*b"), parse_pattern("**/a/" * 20 + "b")]

    assert not matches(stars, ["a" * 250] * 30, False)


WORD = st.sampled_from(["a", "b", "x", "a*", "*b", "?", "*", ".x", "ab"])
PLAIN = st.builds(
    lambda lead, words, tail: lead + "/".join(words) + tail,
    st.sampled_from(["", "/", "**/"]),
    st.lists(st.one_of(WORD, WORD, st.just("**")), min_size=1, max_size=3).filter(
        lambda words: words[0] != "**" and ["**", "**"] != words[1:]
    ),
    st.sampled_from(["", "/"]),
).filter(lambda text: not text.endswith("**/"))
"""What pathspec and git read alike: no brackets or escapes, and no negation, which pathspec
applies below a matched directory too."""


@given(st.lists(PLAIN, min_size=1, max_size=4), PATH)
@settings(max_examples=400, deadline=None)
def test_same_as_pathspec(texts: list[str], path: list[str]) -> None:
    """`GitIgnoreSpec` of pathspec agrees on plain patterns and files."""
    parsed = [parse_pattern(text) for text in texts]
    spec = pathspec.GitIgnoreSpec.from_lines(texts)

    assert bool(Matcher(parsed).find(path, False)) == spec.match_file("/".join(path))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty git repository."""
    path = tmp_path_factory.mktemp("repository")
    git(path, "init", "--quiet", ".")
    return path


def git(directory: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "HOME": str(directory),
    }
    done = subprocess.run(
        ["git", *arguments],
        cwd=directory,
        env=environment,
        input=stdin,
        capture_output=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


@given(st.lists(PATTERN, min_size=1, max_size=4), st.lists(PATH, min_size=20, max_size=40))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_same_as_git(repository: Path, texts: list[str], paths: list[list[str]]) -> None:
    """`git check-ignore` agrees on every path, brackets, escapes and odd spellings included."""
    parsed = parse_all(texts)
    assume(len(parsed) == len(texts))
    assume(not any(map(UNSETTLED.search, texts)))
    (repository / ".gitignore").write_text("\n".join(texts) + "\n")
    # A trailing slash tells git that the path is a directory.
    slash = "" if any(map(EMPTY_END.search, texts)) else "/"
    asked = ["/".join(path) + slash * (index % 2) for index, path in enumerate(paths)]
    asked = [path for path in asked if not path.startswith(".git")]
    stdin = b"".join(path.encode() + b"\0" for path in asked)
    ignored = set(
        git(repository, "check-ignore", "--stdin", "-z", "--no-index", stdin=stdin).split(b"\0")
    )
    matcher = Matcher(parsed)

    for path in asked:
        parts = path.rstrip("/").split("/")
        found = bool(matcher.find(parts, path.endswith("/")))
        assert found == (path.encode() in ignored), (texts, path)
