"""The table of arguments: complete, and the same for parsers, help and completion."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from casemate.cli import completion, run
from casemate.cli.main import VERBS
from casemate.cli.options import ARGUMENTS, arguments_of, launch_options, parse, run_options
from casemate.cli.selecting import _ID
from casemate.errors import UsageError


def test_every_option_of_run_is_in_its_help() -> None:
    """What `run` accepts, what its help says, and what is completed is the same."""
    documented = {name for option in run_options() for name in option.names}

    assert documented == {*run.VALUED, *run.FLAGS}


def test_options_of_run_know_their_values() -> None:
    """An option of `run` takes a value in the table exactly if it takes one in the parser."""
    for option in run_options():
        assert bool(option.value) == (option.names[-1] in run.VALUED), option


def test_options_that_make_a_launch_are_options_of_run() -> None:
    """`plan` and `why` take the options of `run` that decide about the launch, in the same words."""
    parsed = parse(
        "plan", ["--set", "a=1", "--set", "b=2", "--workspace", "direct", "-C", "x", "--waive", "w"]
    )
    by_hand = run.parse(
        ["--set", "a=1", "--set", "b=2", "--workspace", "direct", "-C", "x", "--waive", "w"]
    )

    assert launch_options(parsed).values == by_hand.values


@pytest.mark.parametrize("verb", ARGUMENTS)
def test_abbreviations_are_not_guessed(verb: str) -> None:
    """A shortened option is an error: a script must not change its meaning with a release."""
    if "--json" in {name for option in arguments_of(verb) for name in option.names}:
        with pytest.raises(UsageError):
            parse(verb, ["--jso"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_covers_every_verb_and_option(shell: str) -> None:
    """Each script names every verb and every long option of the table."""
    text = {"bash": completion.bash, "zsh": completion.zsh, "fish": completion.fish}[shell]()

    for verb in VERBS:
        assert verb in text
        for option in arguments_of(verb):
            for name in option.names:
                if name.startswith("--"):
                    shown = f"-l {name[2:]}" if shell == "fish" else name
                    assert shown in text, (verb, name)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_valid(shell: str) -> None:
    """Each script is accepted by its shell, where that is installed."""
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}: not installed")
    text = {"bash": completion.bash, "zsh": completion.zsh, "fish": completion.fish}[shell]()
    done = subprocess.run([shell, "-n"], input=text, text=True, capture_output=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("word", "session"),
    [
        ("20261123-141808-b4hf", True),
        ("20261123", True),
        ("b4hf", True),
        ("src", False),
        ("src/app.py", False),
        ("README.md", False),
        ("tests", False),
    ],
)
def test_a_session_reads_like_one(word: str, session: bool) -> None:
    """What may be a session's id is told from what is a path."""
    assert bool(re.fullmatch(_ID, word)) is session
