"""`casemate discard`: a session's changes are set aside; nothing is lost until it is pruned."""

from __future__ import annotations

import sys

from casemate.cli.options import parse
from casemate.cli.selecting import choose, store_here
from casemate.cli.style import Style, format_duration, print_json
from casemate.workspace.store import DISCARDED_FOR


def main(arguments: list[str]) -> int:
    """Runs the verb."""
    parsed = parse("discard", arguments)
    store = store_here()
    session, _ = choose(store, [parsed.session] if parsed.session else [], parsed.directory)
    store.discard(session.id)
    if parsed.json:
        print_json({"session": session.id, "state": "discarded"})
    else:
        Style(sys.stdout).print(
            f"discarded {session.id}",
            f"for {format_duration(DISCARDED_FOR)} it can be taken back: "
            f"casemate sessions --recover {session.id}",
        )
    return 0
