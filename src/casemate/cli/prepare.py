"""Options -> launch, from the last run's if every fact it rests on still holds.

On the start-up path: making a plan takes a hundred milliseconds of imports, checking one well
under a millisecond. The cache lies in casemate's own state directory, which no sandbox sees.
"""

from __future__ import annotations

import marshal
import os

from casemate.errors import UsageError
from casemate.plan.evidence import holds
from casemate.policy.locations import locate
from casemate.supervisor.binary import supervisor_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from casemate.cli.run import Options
    from casemate.policy.locations import Locations

CACHE_FORMAT = 2
ENVIRONMENT = (
    *("HOME", "PATH", "USER", "SHELL", "TMPDIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME"),
    *("SSL_CERT_FILE", "JAVA_HOME", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE"),
    *("UV_DEFAULT_INDEX", "UV_INDEX_URL", "npm_config_registry", "NPM_CONFIG_REGISTRY"),
    *("NPM_CONFIG_USERCONFIG", "CARGO_HOME", "GOPROXY"),
)
"""Variables that a plan may depend on; a test holds that no other is looked at."""


def prepare(options: Options, *, bare: bool = False) -> dict[str, Any]:
    """The launch for these options, here and now; `bare` for a host that refuses namespaces.

    Raises `PolicyError`, `UsageError` or `UnsupportedError`.
    """
    locations = locate(os.environ)
    directory = start_directory(options.values.get("directory"))
    project = find_project(directory, locations.home)
    return prepare_at(options, locations, project, directory, bare=bare)


def prepare_at(
    options: Options, locations: Locations, project: str, directory: str, *, bare: bool
) -> dict[str, Any]:
    """The launch for a project that is known. Raises as `prepare` does."""
    key = cache_key(options, project, directory, bare)
    path = cache_path(locations, project)
    launch = load_cached(path, key)
    if launch is None:
        from casemate.cli.compile import compile_run

        # The plan rests on what lies on the way to it: made later, it would make the plan stale.
        try:
            os.makedirs(locations.state, mode=0o700, exist_ok=True)
        except OSError:
            pass

        launch = compile_run(options, locations, project, directory, bare=bare)
        store_cached(path, key, launch)
    return launch


def start_directory(wanted: object) -> str:
    """The directory to start in, absolute and without links. Raises `UsageError`."""
    given = os.path.expanduser(str(wanted)) if wanted else "."
    directory = os.path.realpath(given)
    if not os.path.isdir(directory):
        raise UsageError(f"not a directory: {given}", hint="name the project with -C DIR")
    return directory


def find_project(directory: str, home_directory: str) -> str:
    """The project a directory belongs to: the nearest one above with a policy or a repository.

    Never the home directory or anything above it; without either mark, the directory itself.
    """
    boundaries = _ancestors(home_directory)
    repository = ""
    current = directory
    while current not in boundaries:
        if os.path.lexists(os.path.join(current, "casemate.toml")):
            return current
        if not repository and os.path.lexists(os.path.join(current, ".git")):
            repository = current
        current = os.path.dirname(current)
    return repository or directory


def _ancestors(path: str) -> set[str]:
    found = {"/"}
    current = os.path.realpath(path)
    while current != "/":
        found.add(current)
        current = os.path.dirname(current)
    return found


def cache_key(options: Options, project: str, directory: str, bare: bool) -> tuple[object, ...]:
    """Everything besides files that a launch depends on."""
    from casemate import __version__

    try:
        with open("/proc/self/cgroup", "rb") as file:
            groups = file.read()
    except OSError:
        groups = b""
    return (
        CACHE_FORMAT,
        __version__,
        os.stat(supervisor_path()).st_mtime_ns,
        bare,
        project,
        directory,
        os.getcwd(),
        options.key,
        os.geteuid(),
        os.getegid(),
        os.uname().release,
        groups,
        tuple(os.environ.get(name) for name in ENVIRONMENT),
    )


def cache_path(locations: Locations, project: str) -> str:
    """Where the launch of a project is kept: by identity, so a moved project is another one."""
    status = os.stat(project)
    return os.path.join(locations.state, "plans", f"{status.st_dev}-{status.st_ino}")


def load_cached(path: str, key: tuple[object, ...]) -> dict[str, Any] | None:
    """The cached launch if it is for this key, ours, and not stale."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                return None
            stored_key, launch = marshal.load(file)
    except (OSError, ValueError, EOFError, TypeError):
        return None
    if stored_key != key or not isinstance(launch, dict) or not holds(launch["evidence"]):
        return None
    return launch


def store_cached(path: str, key: tuple[object, ...], launch: dict[str, Any]) -> None:
    """Keeps a launch for the next run; a state directory that cannot be written only costs time."""
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            marshal.dump((key, launch), file)  # type: ignore[arg-type]
        os.replace(temporary, path)
    except OSError:
        try:
            os.unlink(temporary)
        except OSError:
            pass
