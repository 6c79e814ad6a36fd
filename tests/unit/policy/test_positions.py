"""The scanner that knows on which line each key stands."""

from __future__ import annotations

import json
import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from casemate.policy.positions import KeyPath, lines_of

DOCUMENT = '''\
# [not.a.table]
version = 1
"quoted key" = 'a # no comment'
text = """
[still.text]
key = "x" ""\\"
"""  # after
raw = \'\'\'
it's [raw] \\\'\'\'
[network]
allow = [
    "a.example:443",  # ] not the end
    "b.example # [x]",

    {rule = "c.example", reason = "a = [1]"},
]
total.up = 1
[secrets.A]
to = ["x", "y"]
[[deny]]
rule = "one"
[[deny]]
rule = "two"
[deny.more]
when = 1979-05-27 07:32:00
"sp\\u0061ce" = -1.5e3
'''


def test_every_kind_of_construct() -> None:
    """Tables, arrays of tables, dotted keys, strings with brackets, multi-line arrays."""
    lines = lines_of(DOCUMENT)

    assert lines[("version",)] == 2
    assert lines[("quoted key",)] == 3
    assert lines[("text",)] == 4
    assert lines[("raw",)] == 8
    assert lines[("network",)] == 10
    assert lines[("network", "allow", 0)] == 12
    assert lines[("network", "allow", 1)] == 13
    assert lines[("network", "allow", 2)] == 15
    assert lines[("network", "allow", 2, "reason")] == 15
    assert lines[("network", "total", "up")] == 17
    assert lines[("secrets", "A", "to", 1)] == 19
    assert lines[("deny", 0, "rule")] == 21
    assert lines[("deny", 1, "rule")] == 23
    assert lines[("deny", 1, "more", "when")] == 25
    assert lines[("deny", 1, "more", "space")] == 26


def paths_of(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    """Every key and index of parsed data."""
    items: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    found = set()
    for key, inner in items:
        found |= {(*path, key)} | paths_of(inner, (*path, key))
    return found


def test_the_example_is_complete() -> None:
    """Nothing tomllib finds is missing, nothing else is there."""
    assert set(lines_of(DOCUMENT)) == paths_of(tomllib.loads(DOCUMENT))


KEY = st.one_of(
    st.text(alphabet="abc-_1", min_size=1, max_size=3),
    st.text(alphabet='a".#[]=\\ é', max_size=4).map(lambda text: json.dumps(text)),
)
STRING = st.one_of(
    st.text(alphabet='a"#[]{},=\\\n é', max_size=8).map(lambda text: json.dumps(text)),
    st.text(alphabet='a"#[]{},=\\ ', max_size=8).map(lambda text: f"'{text}'"),
    st.text(alphabet="a#[]{},=\n ", max_size=8).map(lambda text: f'"""{text}"""'),
    st.text(alphabet='a"#[]{},=\\\n ', max_size=8).map(lambda text: f"'''{text}'''"),
)
SCALAR = st.one_of(
    STRING, st.sampled_from(["1", "-2.5", "true", "1979-05-27 07:32:00", "0x1f", "inf"])
)
SPACE = st.sampled_from(["", " ", "\n", "\n  ", " # a ] comment\n", "\r\n"])


def array_of(value: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Arrays with blank lines and comments wherever they may stand."""
    element = st.builds(lambda a, v, b: f"{a}{v}{b}", SPACE, value, SPACE)
    return st.lists(element, max_size=3).map(lambda items: f"[{','.join(items)}]")


def inline_of(value: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Inline tables on one line."""
    pairs = st.dictionaries(st.sampled_from(["x", "y", '"z.w"', "v.u"]), value, max_size=3)
    return pairs.map(lambda items: "{" + ", ".join(f"{k} = {v}" for k, v in items.items()) + "}")


VALUE = st.recursive(SCALAR, lambda inner: st.one_of(array_of(inner), inline_of(inner)))
LINE = st.one_of(
    st.builds(
        lambda keys, v: ".".join(keys) + " = " + v, st.lists(KEY, min_size=1, max_size=2), VALUE
    ),
    st.lists(KEY, min_size=1, max_size=2).map(lambda keys: f"[ {' . '.join(keys)} ]"),
    st.lists(KEY, min_size=1, max_size=2).map(lambda keys: f"[[{'.'.join(keys)}]]"),
    st.sampled_from(["", "  # [a] comment = 1"]),
)


@given(st.lists(LINE, max_size=8))
def test_generated_documents(statements: list[str]) -> None:
    """For any valid document: the same keys as tomllib, each on the line it was written on."""
    accepted: list[str] = []
    data: dict[str, Any] = {}
    first_line: dict[KeyPath, int] = {}
    line = 1
    for statement in statements:
        try:
            grown = tomllib.loads("\n".join([*accepted, statement]) + "\n")
        except tomllib.TOMLDecodeError:
            continue
        for path in paths_of(grown) - paths_of(data):
            first_line[path] = line
        # What a statement adds stands between its first line and its last.
        accepted.append(statement)
        data = grown
        line += statement.count("\n") + 1
    text = "\n".join(accepted) + "\n"
    lines = lines_of(text)

    assert set(lines) == paths_of(data)
    ends = {path: start for path, start in first_line.items()}
    for path, found in lines.items():
        assert ends[path] <= found <= text.count("\n") + 1
        if not any(isinstance(part, int) for part in path):
            assert found == ends[path] or "{" in text
