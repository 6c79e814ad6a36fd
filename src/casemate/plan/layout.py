"""The steps of a plan while it is made: one for each place, parents before what lies in them."""

from __future__ import annotations

from casemate.plan.files import nearest
from casemate.plan.model import Bind, Mask, Root, Scratch, Step, Symlink
from casemate.plan.roots import within


class Layout:
    """Collects steps by target; the first to claim a place keeps it."""

    def __init__(self) -> None:
        self._steps: dict[str, Step] = {}

    def add(self, step: Step) -> None:
        """Adds a step unless its place is taken."""
        self._steps.setdefault(step.target, step)

    def link(self, link: Symlink) -> None:
        """Adds a link, unless it is there already: in a host directory that is shown."""
        around = self.around(link.target)
        if around is None or (isinstance(around, Scratch) and around.target != link.target):
            self.add(link)

    def around(self, path: str) -> Step | None:
        """The step that decides what is at a real path: the deepest that it lies in."""
        return self._steps.get(nearest(path, self._steps))

    def shows(self, path: str) -> bool:
        """Whether a real host path is there inside."""
        return isinstance(self.around(path), Bind | Root)

    def add_private_parents(self, home: str) -> None:
        """Makes the directories between the home and what is shown in it places of their own.

        Left to be made as mount points they would belong to whoever builds the sandbox, and
        nothing else could be put into `~/.config` or `~/.cache`.
        """
        for target in list(self._steps):
            parent = target.rpartition("/")[0]
            while within(parent, home) and parent != home:
                around = self.around(parent)
                if not isinstance(around, Scratch) or around.target == parent:
                    break
                self.add(Scratch(parent, 0o755, "private to the sandbox"))
                parent = parent.rpartition("/")[0]

    def ordered(self) -> tuple[Step, ...]:
        """All steps, the less deep first."""
        steps = (self._enterable(step) for step in self._steps.values())
        return tuple(sorted(steps, key=lambda step: step.target.count("/")))

    def _enterable(self, step: Step) -> Step:
        """A cover, unless something is shown beneath it: then an empty directory, to mount in."""
        beneath = (path for path in self._steps if path != step.target)
        if isinstance(step, Mask) and any(within(path, step.target) for path in beneath):
            return Scratch(step.target, 0o755, step.reason)
        return step
