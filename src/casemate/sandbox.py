"""The SDK: a sandbox as an object.

    with Sandbox(project) as sandbox:
        result = sandbox.run(["make", "test"])

docs/sdk.md has the whole of it, with examples that run.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Literal, Self, overload

from casemate.errors import CasemateError
from casemate.sdk import files
from casemate.sdk.base import SandboxBase, Settings
from casemate.sdk.changes import Changes
from casemate.sdk.files import Call, FileInfo, Path, T
from casemate.sdk.process import Process, Terminal
from casemate.sdk.request import Word
from casemate.sdk.result import Result, Usage

__all__ = ["FileInfo", "Process", "Result", "Sandbox", "Terminal", "Usage"]


class Sandbox(SandboxBase):
    """A perimeter around a project, open until it is closed.

    `project` is the directory that commands may edit; edits stay in a copy-on-write layer unless
    `workspace` says otherwise. `policy` is the path of a policy file, its text, or a `Policy`.
    `settings` are single lines of policy, as in "limits.memory=2GiB"; `waive` names guarantees
    that may be lacking. Safe to use from several threads. A sandbox that is not closed ends with
    the process, its changes kept for `casemate diff`.

    Raises `PolicyError`, `UsageError`, `UnsupportedError` or `SandboxError`.
    """

    def __init__(
        self,
        project: Path = ".",
        *,
        policy: object = None,
        workspace: Literal["overlay", "direct", "readonly"] | None = None,
        roots: Iterable[Path] = (),
        waive: Iterable[str] = (),
        settings: Iterable[str] = (),
        tier: Literal["auto", "process", "vm"] | None = None,
    ) -> None:
        super().__init__(
            Settings.of(project, policy, workspace, roots, waive, settings, tier)
        )
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except CasemateError:
            # What went wrong in the block says more than that the end of it did, too.
            if problem is None:
                raise

    def __del__(self) -> None:
        if getattr(self, "_opened", None) is not None and not self.closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def run(
        self,
        command: str | Sequence[Word],
        *,
        input: bytes | str = b"",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float | None = None,
        limits: Mapping[str, int] | None = None,
        output_max: int = files_output_max,
        encoding: str = "utf-8",
        check: bool = False,
    ) -> Result:
        """x"""
        raise NotImplementedError
