"""`casemate apply`: a session's changes are written to the project, all that were chosen or none."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from casemate.cli import listing
from casemate.cli.asking import agreed, require_person
from casemate.cli.interactive import decide
from casemate.cli.options import parse
from casemate.cli.selecting import choose, locate_all, store_here
from casemate.cli.style import Style, command_line, count, print_json
from casemate.errors import UsageError
from casemate.workspace import flags
from casemate.workspace.review import Applied, Review, open_review
from casemate.workspace.selection import ApplyPlan, Held, Selection

LINES = 100


def main(arguments: list[str]) -> int:
    """Runs the verb; 1 if the person said no."""
    parsed = parse("apply", arguments)
    if parsed.json and not (parsed.yes or parsed.dry_run):
        raise UsageError("--json asks nothing", hint="add --yes, or --dry-run to look only")
    if parsed.interactive and (parsed.yes or parsed.json):
        raise UsageError("--interactive asks, --yes and --json do not")
    store = store_here()
    session, paths = choose(store, parsed.items, parsed.directory)
    with open_review(store, session.id, incomplete=parsed.incomplete) as review:
        if not review.changes:
            return _nothing(review, as_json=parsed.json)
        if parsed.interactive:
            require_person("--yes")
        selection = select(review, paths, parsed)
        style = Style(sys.stdout)
        if parsed.interactive:
            chosen = decide(style, review, review.plan(selection), selection)
            if chosen is None:
                style.print("nothing was applied")
                return 1
            selection = chosen
        return _carry_out(style, review, selection, parsed)


def select(review: Review, paths: Sequence[str], parsed: Any) -> Selection:
    """What the command line asks for."""
    keys = locate_all(review, paths, parsed.directory)
    if parsed.include_protected:
        protected = [c.key for c in review.changes if flags.PROTECTED in c.flags]
        everything = [(index, b".") for index in review.roots]
        keys = (*(keys or everything), *protected)
    return Selection(
        paths=keys,
        exclude=locate_all(review, parsed.exclude, parsed.directory),
        force=locate_all(review, parsed.force, parsed.directory),
    )


def _nothing(review: Review, *, as_json: bool) -> int:
    if as_json:
        print_json(_json(review, Applied(review.session.id, (), (), ())))
    else:
        Style(sys.stdout).print(f"session {review.session.id} has no changes that wait")
    return 0


def _carry_out(style: Style, review: Review, selection: Selection, parsed: Any) -> int:
    plan = review.plan(selection)
    if parsed.dry_run and parsed.json:
        print_json(_json(review, Applied(review.session.id, plan.chosen, plan.held, ())))
        return 0
    if not parsed.json and not parsed.interactive:
        style.print(*_preview(style, review, plan))
    if parsed.dry_run:
        return 0
    if plan.chosen and not plan.conflicts and not parsed.yes and not parsed.interactive:
        require_person("--yes")
        if not agreed(f"Apply {count(len(plan.chosen), 'change')}?"):
            style.print("nothing was applied")
            return 1
    applied = review.apply(selection)
    if parsed.json:
        print_json(_json(review, applied))
        return 0
    if applied.changes:
        done = f"applied {count(len(applied.changes), 'change')}"
        style.print(style.paint(done, "green"))
        style.print(f"take it back with: casemate undo {applied.session}")
    else:
        style.print("nothing was applied")
    if parsed.interactive:
        style.print(*_held(style, plan.held, applied.session))
    return 0


def _preview(style: Style, review: Review, plan: ApplyPlan) -> list[str]:
    session = review.session
    lines = [style.paint(f"session {session.id}: {command_line(session.command)}", "bold")]
    if plan.chosen:
        lines += [f"to apply: {listing.headline(plan.chosen)}"]
        lines += listing.lines(style, review, plan.chosen, most=LINES)
    return [*lines, *_held(style, plan.held, session.id)]


def _held(style: Style, held: Sequence[Held], session: str) -> list[str]:
    if not held:
        return []
    lines = [style.paint(f"held back: {count(len(held), 'change')}", "yellow")]
    for item in held[:LINES]:
        lines += style.wrap(f"{item.change.name}: {item.reason}", "  ", hanging="    ")
    if len(held) > LINES:
        lines.append(f"  … and {len(held) - LINES} more")
    if any(item.nameable for item in held):
        named = next(item for item in held if item.nameable).change
        example = command_line([named.path.decode("utf-8", "backslashreplace")])
        lines.append(f"  to apply one, name it: casemate apply {session} {example}")
    return lines


def _json(review: Review, applied: Applied) -> dict[str, object]:
    return {
        "session": applied.session,
        "applied": listing.as_json(review, applied.changes),
        "held": [
            {
                "path": item.change.name,
                "flag": item.flag,
                "reason": item.reason,
                "nameable": item.nameable,
            }
            for item in applied.held
        ],
        "remaining": listing.as_json(review, applied.remaining),
    }
