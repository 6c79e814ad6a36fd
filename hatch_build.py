"""Compiles the native programs: the build hook of the wheel, and `python hatch_build.py` by hand.

The programs are static, use no libc and come out the same to the byte wherever they are built.
Two environment variables steer a build: CASEMATE_TARGET names the platform to build for, and
CASEMATE_ZIG a compiler to use in place of the pinned one from the `ziglang` wheel.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
# An editable install is a path to src/: the programs have to lie there.
EDITABLE = ROOT / "src/casemate/bin"
CACHE = ROOT / ".zig-cache"
PROGRAMS = {"casemate-supervisor": "native/supervisor/main.zig"}
ZIG_VERSION = "0.17.1"
TARGETS = {"x86_64-linux": "x86_64-linux-none", "aarch64-linux": "aarch64-linux-none"}


def target() -> str:
    """The platform to build for: CASEMATE_TARGET, or the one this build runs on."""
    host = f"{platform.machine()}-{sys.platform}"
    chosen = os.environ.get("CASEMATE_TARGET", host)
    if chosen not in TARGETS:
        raise SystemExit(
            f"casemate is not built for {chosen}; CASEMATE_TARGET: {', '.join(TARGETS)}"
        )
    return chosen


def compiler() -> list[str]:
    """The command that runs zig. Exits with a sentence when it is missing or of another version."""
    given = os.environ.get("CASEMATE_ZIG", "")
    command = [given] if given else [sys.executable, "-m", "ziglang"]
    try:
        version = subprocess.check_output([*command, "version"], text=True).strip()
    except (OSError, subprocess.CalledProcessError) as error:
        version = f"no working compiler: {error}"
    if version != ZIG_VERSION:
        raise SystemExit(
            f"casemate is built with zig {ZIG_VERSION}, but `{' '.join(command)}` is {version!r}: "
            f"pip install ziglang=={ZIG_VERSION}, or set CASEMATE_ZIG to the path of that version"
        )
    return command


def build(directory: Path) -> dict[str, Path]:
    """Compile every program into `directory`; the result maps its name to the file."""
    zig = compiler()
    directory.mkdir(parents=True, exist_ok=True)
    built = {}
    for name, source in PROGRAMS.items():
        # The compiler writes beside the old program, which may be running, and then replaces it.
        fresh = directory / f".{name}.new"
        command = [*zig, "build-exe", source, "-target", TARGETS[target()], "-mcpu", "baseline"]
        command += ["-O", "ReleaseSafe", "-fstrip", "-fsingle-threaded", f"-femit-bin={fresh}"]
        command += ["--cache-dir", str(CACHE), "--global-cache-dir", str(CACHE)]
        if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
            raise SystemExit(f"{source} did not compile")
        fresh.chmod(0o755)
        built[name] = fresh.replace(directory / name)
    return built


def bill_of_materials(programs: dict[str, Path], version: str) -> dict[str, Any]:
    """What the wheel holds beside Python, as CycloneDX 1.6 (PEP 770); the same in every build."""
    files = []
    for name, path in programs.items():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        hashes = [{"alg": "SHA-256", "content": digest}]
        files.append({"type": "file", "name": f"casemate/bin/{name}", "hashes": hashes})
    casemate = {"type": "application", "name": "casemate", "version": version}
    zig = {"name": "zig", "version": ZIG_VERSION, "licenses": [{"license": {"id": "MIT"}}]}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": casemate,
            "tools": {"components": [zig | {"type": "application"}]},
        },
        # The compiler's standard library is part of every program.
        "components": [*files, zig | {"type": "library", "name": "zig-std"}],
    }


class NativeBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the compiled programs and their bill of materials into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            build(EDITABLE)
            return
        work = CACHE / target()
        programs = build(work)
        bill = work / "casemate.cdx.json"
        bill.write_text(json.dumps(bill_of_materials(programs, self.metadata.version), indent=2))
        build_data["sbom_files"].append(str(bill))
        build_data["pure_python"] = False
        # Programs without a libc suit the oldest platforms that installers have a tag for.
        machine = target().removesuffix("-linux")
        build_data["tag"] = f"py3-none-manylinux_2_17_{machine}.musllinux_1_1_{machine}"
        for name, path in programs.items():
            build_data["force_include"][str(path)] = f"casemate/bin/{name}"


if __name__ == "__main__":
    for path in build(EDITABLE).values():
        print(path.relative_to(ROOT))
