"""Shell commands that run one of their arguments, or their standard input, as a script."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

OPAQUE = "\ufffc"
"""The placeholder in a word for text that is known only at run time."""


class Nested(NamedTuple):
    """The arguments that a command runs as a script, by position; `program` is that command."""

    program: str
    words: tuple[int, ...] = ()
    reads_script: bool = False


NOTHING = Nested("")

_RESERVED = frozenset(["if", "then", "else", "elif", "while", "until", "do", "!", "{", "time"])
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\[[^]]*\])?\+?=")
_WRAPPERS = frozenset(
    # A list takes a line for each.
    """aws builtin chroot chrt command docker doas env exec find flock gcloud ionice
    kubectl lxc nerdctl nice nohup nsenter oc podman setpriv setsid sshpass stdbuf strace
    sudo taskset time timeout torsocks unshare vagrant wsl xargs""".split()  # noqa: SIM905
)
_SHELLS = frozenset(
    [
        "ash",
        "bash",
        "busybox",
        "dash",
        "fish",
        "ksh",
        "mksh",
        "rbash",
        "sh",
        "zsh",
        "pwsh",
        "powershell",
    ]
)
_CODE_OPTIONS = {
    "lua": "e",
    "mysql": "e",
    "node": "ep",
    "osascript": "e",
    "perl": "eE",
    "php": "r",
    "psql": "c",
    "python": "c",
    "ruby": "e",
}
_COMMAND_OPTIONS = {"su": "c", "runuser": "c", "script": "c", "flock": "c"}
_LONG_OPTIONS = ("--command", "--eval", "--execute", "--print", "--session-command")
_ALL_WORDS = frozenset(["eval", "let", "trap", "watch"])
_READ_SCRIPTS = frozenset(["at", "batch", "crontab"])
_COMMON_WORDS = frozenset(["[[", "at", "batch", "let", "script", "trap"])
"""Commands whose names usually mean something else after `sudo` or `docker`."""
_SSH = frozenset(["ssh", "autossh", "rsh", "slogin"])
_SSH_OPTIONS = "BbcDEeFIiJLlmOopPQRSWw"
_COMPARISONS = frozenset(["-eq", "-ne", "-lt", "-le", "-gt", "-ge"])


def nested_script(words: Sequence[str]) -> Nested:
    """Return the arguments of a command that are run as a script."""
    start = _command_start(words)
    if start == len(words):
        return NOTHING
    found = _of_command(words, start)
    if found is not None:
        return found
    if _name(words[start]) in _WRAPPERS:
        for at in range(start + 1, len(words)):
            found = None if words[at] in _COMMON_WORDS else _of_command(words, at)
            if found is not None:
                return _through_xargs(words, start, found)
    return NOTHING


def _command_start(words: Sequence[str]) -> int:
    start = 0
    while start < len(words) and (words[start] in _RESERVED or _ASSIGNMENT.match(words[start])):
        start += 1
    return start


def _name(word: str) -> str:
    """Return the name of a program without its folder and version."""
    name = word.rpartition("/")[2]
    return re.sub(r"(?<=[a-z])[0-9.]+$", "", name)


def _of_command(words: Sequence[str], start: int) -> Nested | None:
    """Return the scripts of the command at `start`; None if it is not known to run scripts."""
    name = _name(words[start])
    read = _READERS.get(name)
    return None if read is None else read(name, words, range(start + 1, len(words)))


def _of_shell(name: str, words: Sequence[str], rest: range) -> Nested:
    has_script = False
    takes_value = False
    for at in rest:
        word = words[at]
        if takes_value:
            takes_value = False
        elif name == "busybox" and at == rest.start and word in _SHELLS:
            continue
        elif word.lower() in ("-command", "--command", "-encodedcommand") or re.fullmatch(
            r"[-+][A-Za-z]*c[A-Za-z]*", word
        ):
            has_script = True
        elif word in ("-o", "+o", "-O", "+O", "--rcfile", "--init-file"):
            takes_value = True
        elif word.startswith(("-", "+")) and word != "-":
            if word == "-s":
                return Nested(name, reads_script=True)
        else:
            return (
                Nested(name, (at,))
                if has_script
                else Nested(name, reads_script=word in ("-", "/dev/stdin"))
            )
    return Nested(name, reads_script=not has_script)


def _of_ssh(name: str, words: Sequence[str], rest: range) -> Nested:
    at, has_ended = rest.start, False
    while at < rest.stop:
        word = words[at]
        if not has_ended and word == "--":
            has_ended = True
        elif not has_ended and word.startswith("-"):
            at += word[-1] in _SSH_OPTIONS and len(word) == 2
        else:
            break
        at += 1
    remote = tuple(range(at + 1, rest.stop))
    return Nested(name, remote, reads_script=not remote)


def _of_test(name: str, words: Sequence[str], rest: range) -> Nested:
    """Return the operands of numeric comparisons, which `[[` evaluates as arithmetic."""
    places = [at for at in rest if words[at] in _COMPARISONS]
    return Nested(
        name, tuple(sorted({near for at in places for near in (at - 1, at + 1) if near in rest}))
    )


def _of_awk(name: str, words: Sequence[str], rest: range) -> Nested:
    takes_value = False
    for at in rest:
        if takes_value:
            takes_value = False
        elif words[at].startswith(("-f", "--file")):
            break
        elif words[at] in ("-v", "-F"):
            takes_value = True
        elif not words[at].startswith("-"):
            return Nested(name, (at,))
    return NOTHING


def _of_parallel(name: str, words: Sequence[str], rest: range) -> Nested:
    until = next((at for at in rest if words[at].startswith(":::")), rest.stop)
    return Nested(name, tuple(range(rest.start, until)), reads_script=until == rest.start)


def _of_all(name: str, _words: Sequence[str], rest: range) -> Nested:
    return Nested(name, tuple(rest))


def _of_input(name: str, _words: Sequence[str], _rest: range) -> Nested:
    return Nested(name, reads_script=True)


def _of_options(name: str, words: Sequence[str], rest: range) -> Nested:
    """Return the words that are arguments of an option such as `-c`."""
    letters = _CODE_OPTIONS.get(name) or _COMMAND_OPTIONS[name]
    found: list[int] = []
    is_short: Callable[[str], object] = re.compile(rf"-[A-Za-z]*[{letters}]").fullmatch
    for at in rest:
        word = words[at]
        if is_short(word) or word in _LONG_OPTIONS:
            found.extend([at + 1] if at + 1 in rest else [])
        elif word.startswith(tuple(f"{option}=" for option in _LONG_OPTIONS)) or re.match(
            rf"-[{letters}].", word
        ):
            found.append(at)
    operands = [at for at in rest if not words[at].startswith("-") and at not in found]
    reads = (
        name in _CODE_OPTIONS and not found and (not operands or "-" in [words[at] for at in rest])
    )
    return Nested(name, tuple(found), reads_script=reads)


def _through_xargs(words: Sequence[str], start: int, found: Nested) -> Nested:
    """Add the input of `xargs`, which becomes part of the script or further arguments of it."""
    if _name(words[start]) != "xargs":
        return found
    option = next(
        (word for word in words[start + 1 :] if word.startswith(("-I", "-i", "--replace"))), None
    )
    if option is None:
        adds = found.reads_script or found.program in _SSH or found.program in _ALL_WORDS
        return found._replace(reads_script=adds)
    mark = _replaced(words, option)
    return found._replace(reads_script=any(mark in words[at] for at in found.words))


def _replaced(words: Sequence[str], option: str) -> str:
    if option == "-I":
        after = list(words).index(option) + 1
        return words[after] if after < len(words) else "{}"
    return (
        option.removeprefix("--replace").removeprefix("=").removeprefix("-I").removeprefix("-i")
        or "{}"
    )


_READERS: dict[str, Callable[[str, Sequence[str], range], Nested]] = {
    **dict.fromkeys(_SHELLS, _of_shell),
    **dict.fromkeys(_SSH, _of_ssh),
    **dict.fromkeys(_ALL_WORDS, _of_all),
    **dict.fromkeys(_READ_SCRIPTS, _of_input),
    **dict.fromkeys((*_CODE_OPTIONS, *_COMMAND_OPTIONS), _of_options),
    **dict.fromkeys(("awk", "gawk", "mawk", "nawk"), _of_awk),
    "parallel": _of_parallel,
    "[[": _of_test,
}
