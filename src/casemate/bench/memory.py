"""Memory of an idle sandbox, and many open at once."""

from __future__ import annotations

import os
import time

from casemate.bench.figures import Row, Skipped, at_most, figure
from casemate.bench.fixture import Sandbox, Size, launch_for, open_sandbox

SECTION = "many at once"
MEBIBYTE = 1 << 20


def measure(project: str, size: Size, tier: str = "") -> list[Row]:
    """Opens many sandboxes of one project, looks at each, and closes them."""
    launch = launch_for(project, tier=tier)
    before = kernel_memory()
    opened: list[Sandbox] = []
    closing: list[float] = []
    try:
        began = time.perf_counter()
        opened += [open_sandbox(launch) for _ in range(size.sandboxes)]
        whole = time.perf_counter() - began
        memory = [process_memory(sandbox) for sandbox in opened]
        kernel = max(0, kernel_memory() - before) / size.sandboxes
        mixed = crossing(opened, project)
    finally:
        began = time.perf_counter()
        closing += [sandbox.close() for sandbox in opened]
        closed = time.perf_counter() - began
    count = f"{size.sandboxes}"
    each = [seconds for seconds in (sandbox.opened for sandbox in opened)]
    rows: list[Row] = [
        figure(SECTION, f"{count} sandboxes, open one", each),
        figure(SECTION, f"{count} sandboxes, open all", [whole]),
        figure(SECTION, f"{count} sandboxes, close one", closing),
        figure(SECTION, f"{count} sandboxes, close all", [closed]),
    ]
    kinds = {kind for kind, _ in memory}
    used = [bytes_ for _, bytes_ in memory]
    if used and "" not in kinds:
        note = f"{', '.join(sorted(kinds))} of supervisor and PID 1"
        rows.append(figure(SECTION, "processes of an idle sandbox", used, unit="bytes", note=note))
        total = [value + kernel for value in used]
        bar = at_most(sorted(total)[len(total) // 2], 2 * MEBIBYTE, "< 2 MiB")
        note = "with the growth of slab, page tables and kernel stacks, shared out"
        rows.append(
            figure(
                SECTION, "memory of an idle sandbox", total, unit="bytes", bars=(bar,), note=note
            )
        )
    else:
        rows.append(Skipped(SECTION, "memory of an idle sandbox", "/proc says nothing here"))
    bar = at_most(mixed, 0, "none")
    rows.append(figure(SECTION, "cross-talk seen", [float(mixed)], unit="count", bars=(bar,)))
    return rows


def crossing(opened: list[Sandbox], project: str) -> int:
    """How many traces of one sandbox are seen in another, or in the project itself.

    Each writes its number into the project, into /tmp and into its own list of processes.
    """
    for number, sandbox in enumerate(opened):
        sandbox.run(["/bin/sh", "-c", f"echo {number} >bench-mark; echo {number} >/tmp/bench-mark"])
    seen = int(os.path.lexists(os.path.join(project, "bench-mark")))
    look = "cat bench-mark /tmp/bench-mark; ls -d /proc/[0-9]* | wc -l"
    for number, sandbox in enumerate(opened):
        words = sandbox.text(["/bin/sh", "-c", look]).split()
        # PID 1, the shell, and what counts.
        few = len(words) == 3 and words[2].isdigit() and int(words[2]) <= 5
        seen += words[:2] != [str(number)] * 2 or not few
    return seen


def kernel_memory() -> int:
    """Bytes of slab, page tables and kernel stacks on the whole machine. proc(5)"""
    total = 0
    with open("/proc/meminfo") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in ("Slab", "PageTables", "KernelStack", "Percpu"):
                total += int(rest.split()[0]) * 1024
    return total


def process_memory(sandbox: Sandbox) -> tuple[str, int]:
    """What the supervisor's processes hold in bytes, and in which measure; "" if not to be had."""
    processes = _tree(sandbox.session.pid)
    proportional = [_smaps(process) for process in processes]
    if None not in proportional:
        return "PSS", sum(value or 0 for value in proportional)
    resident = [_statm(process) for process in processes]
    if None not in resident:
        return "RSS (shared pages counted in full)", sum(value or 0 for value in resident)
    return "", 0


def _tree(process: int) -> list[int]:
    found = [process]
    try:
        with open(f"/proc/{process}/task/{process}/children") as file:
            for child in file.read().split():
                found += _tree(int(child))
    except OSError:
        pass
    return found


def _smaps(process: int) -> int | None:
    try:
        with open(f"/proc/{process}/smaps_rollup") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return None
    return 0


def _statm(process: int) -> int | None:
    try:
        with open(f"/proc/{process}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None
