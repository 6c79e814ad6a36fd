"""Where casemate keeps its own files. Source: XDG Base Directory Specification 0.8.

A cached plan is looked up by these, so this module is on the start-up path and imports only os.
"""

from __future__ import annotations

import os

from casemate.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

ORGANISATION_POLICY = "/etc/casemate/policy.toml"
PROJECT_POLICY = "casemate.toml"


class Locations:
    """Absolute paths; nothing need exist.

    `configuration` holds the user's policy and settings, `state` trust, sessions and journals.
    """

    __slots__ = ("configuration", "home", "organisation_policy", "state")

    def __init__(
        self,
        home: str,
        configuration: str,
        state: str,
        organisation_policy: str = ORGANISATION_POLICY,
    ) -> None:
        self.home = home
        self.configuration = configuration
        self.state = state
        self.organisation_policy = organisation_policy

    @property
    def user_policy(self) -> str:
        """The user's own policy file."""
        return os.path.join(self.configuration, "policy.toml")

    @property
    def own(self) -> tuple[str, ...]:
        """Directories that no sandbox ever sees."""
        return (self.configuration, self.state)


def locate(environment: Mapping[str, str]) -> Locations:
    """The locations for the user this process runs as.

    Raises `UsageError` when no home directory can be told.
    """
    home = home_directory(environment)
    configuration = environment.get("XDG_CONFIG_HOME", "")
    state = environment.get("XDG_STATE_HOME", "")
    # The specification: a relative path in these variables is to be ignored.
    configuration = configuration if os.path.isabs(configuration) else f"{home}/.config"
    state = state if os.path.isabs(state) else f"{home}/.local/state"
    return Locations(home, os.path.join(configuration, "casemate"), os.path.join(state, "casemate"))


def home_directory(environment: Mapping[str, str]) -> str:
    """The home of the effective user: $HOME if it is theirs, else that of the password database.

    `sudo` may keep the caller's $HOME; policy and trust of another user are not read as root.
    """
    user = os.geteuid()
    said = environment.get("HOME", "")
    if os.path.isabs(said) and _owner(said) == user:
        return os.path.normpath(said)
    import pwd

    try:
        return pwd.getpwuid(user).pw_dir
    except KeyError:
        # Containers run under numbers that no database knows; $HOME is all there is.
        if os.path.isabs(said) and os.path.isdir(said):
            return os.path.normpath(said)
    raise UsageError(
        f"no home directory: user {user} is not in the password database",
        hint="set HOME to a directory that this user owns",
    )


def _owner(path: str) -> int:
    try:
        return os.stat(path).st_uid
    except OSError:
        return -1
