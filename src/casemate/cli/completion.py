"""`casemate completion SHELL`: completion made from the table that the parsers are made from."""

from __future__ import annotations

import sys

from casemate.cli.main import VERBS
from casemate.cli.options import Option, arguments_of, parse

SESSIONS = "casemate sessions --ids"


def main(arguments: list[str]) -> int:
    """Runs the verb."""
    parsed = parse("completion", arguments, DESCRIPTION)
    scripts = {"bash": bash, "zsh": zsh, "fish": fish}
    sys.stdout.write(scripts[parsed.shell]())
    return 0


DESCRIPTION = """\
Prints completion for a shell.

  bash  casemate completion bash > ~/.local/share/bash-completion/completions/casemate
  zsh   casemate completion zsh > DIRECTORY_OF_FPATH/_casemate
  fish  casemate completion fish > ~/.config/fish/completions/casemate.fish"""


def bash() -> str:
    """The script for bash. bash(1), Programmable Completion"""
    cases = []
    for verb in VERBS:
        options = [option for option in arguments_of(verb) if not option.positional]
        names = " ".join(name for option in options for name in option.names)
        values = "".join(
            f"                {'|'.join(option.names)}) {_bash_words(option)}; return ;;\n"
            for option in options
            if option.value
        )
        positional = [option for option in arguments_of(verb) if option.positional]
        words = _bash_words(positional[0]) if positional else ":"
        cases.append(
            f"        {verb})\n"
            f"            case $previous in\n{values}            esac\n"
            f"            if [[ $current == -* ]]; then\n"
            f'                COMPREPLY=($(compgen -W "{names} --help" -- "$current"))\n'
            f"            else\n"
            f"                {words}\n"
            f"            fi ;;\n"
        )
    commands = _bash_commands()
    return f"""\
# completion of casemate for bash
_casemate() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} index
    COMPREPLY=()
    if (( COMP_CWORD == 1 )); then
        COMPREPLY=($(compgen -W "{" ".join(VERBS)} --help --version" -- "$current"))
        return
    fi
{commands}    case ${{COMP_WORDS[1]}} in
{"".join(cases)}    esac
}}
complete -o bashdefault -o default -F _casemate casemate
"""


def _bash_commands() -> str:
    """After the options of `run` the words are those of another command."""
    valued = "|".join(
        name
        for option in arguments_of("run")
        if option.value and not option.positional
        for name in option.names
    )
    return f"""\
    if [[ ${{COMP_WORDS[1]}} == run ]]; then
        index=2
        while (( index < COMP_CWORD )); do
            case ${{COMP_WORDS[index]}} in
                --) index=$((index + 1)); break ;;
                {valued}) index=$((index + 2)) ;;
                -*) index=$((index + 1)) ;;
                *) break ;;
            esac
        done
        if (( index < COMP_CWORD )) || [[ ${{COMP_WORDS[index-1]}} == -- ]]; then
            if declare -F _command_offset >/dev/null; then
                _command_offset $index
            elif (( index == COMP_CWORD )); then
                COMPREPLY=($(compgen -c -- "$current"))
            fi
            return
        fi
    fi
"""


def _bash_words(option: Option) -> str:
    if option.choices:
        return f'COMPREPLY=($(compgen -W "{" ".join(option.choices)}" -- "$current"))'
    return {
        "file": 'COMPREPLY=($(compgen -f -- "$current"))',
        "directory": 'COMPREPLY=($(compgen -d -- "$current"))',
        "session": f'COMPREPLY=($(compgen -f -W "$({SESSIONS} 2>/dev/null)" -- "$current"))',
        "command": 'COMPREPLY=($(compgen -c -- "$current"))',
    }.get(option.completes, ":")


def zsh() -> str:
    """The script for zsh. zshcompsys(1)"""
    verbs = "\n".join(f"        {_quoted(f'{verb}:{text}')}" for verb, text in VERBS.items())
    cases = []
    for verb in VERBS:
        specifications = [_zsh_specification(option) for option in arguments_of(verb)]
        listed = " \\\n                ".join([*specifications, "'--help[show help]'"])
        cases.append(
            f"            {verb})\n            _arguments -s \\\n                {listed} ;;\n"
        )
    return f"""\
#compdef casemate
# completion of casemate for zsh
_casemate_sessions() {{
    compadd -- $({SESSIONS} 2>/dev/null)
}}
_casemate() {{
    local -a verbs=(
{verbs}
    )
    local state line
    _arguments -C '1: :->verb' '*:: :->rest'
    case $state in
        verb) _describe verb verbs ;;
        rest)
            case $line[1] in
{"".join(cases)}            esac ;;
    esac
}}
_casemate "$@"
"""


def _zsh_specification(option: Option) -> str:
    action = {
        "file": "_files",
        "directory": "_files -/",
        "session": "_alternative 'sessions:session:_casemate_sessions' 'files:file:_files'",
        "command": "_normal",
    }.get(option.completes, " ")
    if option.completes == "session" and not option.repeat:
        action = "_casemate_sessions"
    if option.choices:
        action = f"({' '.join(option.choices)})"
    text = option.text.replace("[", "(").replace("]", ")").replace(":", " -")
    if option.positional:
        place = "*:" if option.completes == "command" else "*" if option.repeat else ""
        return _quoted(f"{place}:{option.names[0]}:{action}")
    value = f":{option.value}:{action}" if option.value else ""
    names = option.names
    if len(names) == 1:
        return _quoted(f"{'*' if option.repeat else ''}{names[0]}[{text}]{value}")
    both = f"{{{','.join(names)}}}"
    return f"'({' '.join(names)})'{both}{_quoted(f'[{text}]{value}')}"


def fish() -> str:
    """The script for fish. fish(1), complete"""
    lines = [
        "# completion of casemate for fish",
        "complete -c casemate -f",
    ]
    for verb, text in VERBS.items():
        lines.append(
            f"complete -c casemate -n __fish_use_subcommand -a {verb} -d {_fish_quoted(text)}"
        )
    for verb in VERBS:
        seen = f"-n '__fish_seen_subcommand_from {verb}'"
        for option in arguments_of(verb):
            lines.append(f"complete -c casemate {seen} {_fish_option(option)}")
    return "\n".join(lines) + "\n"


def _fish_option(option: Option) -> str:
    words = {
        "file": "-F",
        "directory": "-a '(__fish_complete_directories)'",
        "session": f"{'-F ' if option.repeat else ''}-a '({SESSIONS} 2>/dev/null)'",
        "command": "-a '(__fish_complete_subcommand)'",
    }.get(option.completes, "")
    if option.choices:
        words = f"-a {_fish_quoted(' '.join(option.choices))}"
    if option.positional:
        return words or "-f"
    parts = [
        f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names
    ]
    if option.value:
        # -x is -r -f: a value is required, and files are not among the guesses.
        parts.append(f"-r {words}" if "-F" in words else f"-x {words}".rstrip())
    return " ".join((*parts, f"-d {_fish_quoted(option.text)}"))


def _quoted(text: str) -> str:
    """A word for a POSIX-like shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
