"""Shell commands that run one of their arguments, or their standard input, as a script."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

OPAQUE = "\ufffc"
"""The placeholder in a word for text that is known only at run time."""

PROCESS = "\ufff9"
"""The placeholder in a word for the output of a process substitution, as in ``<(…)``."""


class Nested(NamedTuple):
    """The arguments that a command runs as a script, by position; `program` is that command."""

    program: str
    words: tuple[int, ...] = ()
    reads_script: bool = False


NOTHING = Nested("")

_RESERVED = frozenset(
    ["if", "then", "else", "elif", "while", "until", "do", "!", "{", "time", "coproc"]
)
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\[[^]]*\])?\+?=")
_WRAPPERS = frozenset(
    # A list takes a line for each.
    """aws builtin catchsegv chroot chrt command dbus-run-session docker docker-compose doas
    env exec fakeroot find flock gcloud gosu ionice kubectl linux32 linux64 ltrace lxc nerdctl
    nice nohup nsenter oc perf podman prlimit proxychains runcon setarch setpriv setsid sshpass
    stdbuf strace su-exec sudo systemd-run taskset time timeout torsocks unbuffer unshare
    vagrant wsl xargs""".split()  # noqa: SIM905
)
_SHELLS = frozenset(
    [
        "ash",
        "bash",
        "busybox",
        "csh",
        "dash",
        "fish",
        "ksh",
        "mksh",
        "rbash",
        "sh",
        "tcsh",
        "zsh",
        "pwsh",
        "powershell",
    ]
)
_CODE_OPTIONS = {
    "Rscript": "e",
    "bun": "ep",
    "expect": "c",
    "groovy": "e",
    "julia": "eE",
    "lua": "e",
    "mariadb": "e",
    "mysql": "e",
    "node": "ep",
    "nodejs": "ep",
    "osascript": "e",
    "perl": "eE",
    "php": "r",
    "psql": "c",
    "python": "c",
    "ruby": "e",
}
_COMMAND_OPTIONS = {
    "flock": "c",
    "rsync": "e",
    "runuser": "c",
    "script": "c",
    "sg": "c",
    "su": "c",
    "tar": "I",
}
_LONG_OPTIONS = (
    "--checkpoint-action",
    "--command",
    "--eval",
    "--execute",
    "--print",
    "--rsh",
    "--session-command",
    "--to-command",
    "--use-compress-program",
)
_ALL_WORDS = frozenset(["eval", "let", "trap", "watch"])
_READ_SCRIPTS = frozenset(["at", "batch", "crontab"])
_COMMON_WORDS = frozenset(["[[", "at", "batch", "let", "script", "trap"])
"""Commands whose names usually mean something else after `sudo` or `docker`."""
_SSH = frozenset(["ssh", "autossh", "rsh", "slogin"])
_SSH_OPTIONS = "BbcDEeFIiJLlmOopPQRSWw"
_COMPARISONS = frozenset(["-eq", "-ne", "-lt", "-le", "-gt", "-ge"])

_DECLARATIONS = frozenset(["declare", "export", "local", "readonly", "typeset"])
_OPTIONS_WITH_VALUES = {"read": "adinNptu", "unset": ""}
BUILTINS = _DECLARATIONS | {".", "[", "mapfile", "printf", "read", "readarray", "source"}
BUILTINS |= {"test", "unset"}
"""Commands that are part of a shell, and something else when another program runs them."""

SUBSCRIPT = "a[…]"
"""The program of words that a shell evaluates as the subscript of an array."""

EVALUATING = _DECLARATIONS | {"[", "[[", "let", "printf", "read", "test", "unset", SUBSCRIPT}
"""Commands that evaluate a word as arithmetic, or as the name of a variable with a subscript."""

_NAMED_SUBSCRIPT = re.compile(rf"(?:[A-Za-z_]\w*)?\[[^=]*{OPAQUE}[^=]*\]\+?=")


def nested_script(words: Sequence[str]) -> Nested:
    """Return the arguments of a command that are run as a script."""
    start = command_start(words)
    subscripts = tuple(at for at, word in enumerate(words) if _NAMED_SUBSCRIPT.match(word))
    if start == len(words) or (subscripts and words[start] not in _DECLARATIONS):
        return Nested(SUBSCRIPT, subscripts) if subscripts else NOTHING
    found = _of_command(words, start)
    if found is not None:
        return found
    if _name(words[start]) in _WRAPPERS:
        is_shell = words[start] in ("builtin", "command")
        for at in range(start + 1, len(words)):
            is_other = words[at] in _COMMON_WORDS or (words[at] in BUILTINS and not is_shell)
            found = None if is_other and not is_shell else _of_command(words, at)
            if found is not None:
                return _through_xargs(words, start, found)
    return NOTHING


def command_start(words: Sequence[str]) -> int:
    """Return the position behind reserved words, assignments and the name of a function."""
    start = 0
    while start < len(words) and (
        words[start] in _RESERVED
        or "function" in (words[start], words[max(start - 1, 0)])
        or _ASSIGNMENT.match(words[start])
        or list(words[max(start - 1, 0) : start + 1]) == ["time", "-p"]
    ):
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
                if has_script or PROCESS in word
                else Nested(name, reads_script=word in ("-", "/dev/stdin"))
            )
    return Nested(name, reads_script=not has_script)


def _of_source(name: str, words: Sequence[str], rest: range) -> Nested:
    """Return the output of a process substitution that the shell reads as a part of the script."""
    if not rest:
        return NOTHING
    word = words[rest.start]
    return Nested(name, (rest.start,) if PROCESS in word else (), reads_script=word == "/dev/stdin")


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
    """Return the operands of numeric comparisons, which `[[` evaluates as arithmetic.

    All tests evaluate the subscript of a variable after `-v`.
    """
    places = {at + 1 for at in rest if words[at] == "-v"}
    if name == "[[":
        compared = [at for at in rest if words[at] in _COMPARISONS]
        places |= {near for at in compared for near in (at - 1, at + 1)}
    return Nested(name, tuple(sorted(at for at in places if at in rest)))


def _of_variables(name: str, words: Sequence[str], rest: range) -> Nested:
    """Return the names of variables, whose subscripts are evaluated."""
    takes_value = (
        re.compile(rf"-[A-Za-z]*[{_OPTIONS_WITH_VALUES[name]}]") if name == "read" else None
    )
    found: list[int] = []
    for at in rest:
        is_value = at - 1 in rest and takes_value and takes_value.fullmatch(words[at - 1])
        if not words[at].startswith("-") and not is_value:
            found.append(at)
    return Nested(name, tuple(found))


def _of_declaration(name: str, words: Sequence[str], rest: range) -> Nested:
    """Return the names that are declared, and the values that are evaluated.

    These are the values of arrays, of integers and of references to other variables.
    """
    options = {letter for at in rest if words[at].startswith("-") for letter in words[at]}
    evaluates = not options.isdisjoint("aAin")
    places = [
        at
        for at in rest
        if OPAQUE in (words[at] if evaluates else words[at].partition("=")[0])
        and not words[at].startswith("-")
    ]
    return Nested(name, tuple(places))


def _of_printf(name: str, words: Sequence[str], rest: range) -> Nested:
    """Return the name of the variable after `-v`."""
    if not rest or not words[rest.start].startswith("-v"):
        return NOTHING
    at = rest.start + (words[rest.start] == "-v")
    return Nested(name, (at,) if at in rest else ())


def _of_mapfile(name: str, words: Sequence[str], rest: range) -> Nested:
    """Return the command that is run for the lines that are read."""
    places = [at + 1 for at in rest if words[at] == "-C"]
    return Nested(name, tuple(at for at in places if at in rest))


def _of_env(name: str, words: Sequence[str], rest: range) -> Nested | None:
    """Return the text that `env -S` splits into a command; None without that option."""
    for at in rest:
        word = words[at]
        if re.fullmatch(r"-[A-Za-z0]*S|--split-string", word):
            return Nested(name, (at + 1,) if at + 1 in rest else ())
        if re.match(r"-[i0v]*S.|--split-string=", word):
            return Nested(name, (at,))
        is_value = at - 1 in rest and words[at - 1] in ("-u", "-C", "--unset", "--chdir")
        if not (word.startswith("-") or _ASSIGNMENT.match(word) or is_value):
            break
    return None


def _of_sed(name: str, words: Sequence[str], rest: range) -> Nested:
    """Return the scripts of `sed`, which may run commands unless in its sandbox."""
    if "--sandbox" in words:
        return NOTHING
    scripts: list[int] = []
    operand: int | None = None
    has_script = takes_value = False
    for at in rest:
        word = words[at]
        if takes_value:
            takes_value = False
        elif re.fullmatch(r"-[nErsuz]*[ef]|--(expression|file)", word):
            has_script = takes_value = True
            scripts += [at + 1] if word[-1] in "en" and at + 1 in rest else []
        elif re.match(r"-[nErsuz]*e.|--expression=", word):
            has_script = True
            scripts.append(at)
        elif word.startswith(("-f", "--file=")):
            has_script = True
        elif not word.startswith("-") and operand is None:
            operand = at
    if not has_script and operand is not None:
        scripts.append(operand)
    return Nested(name, tuple(scripts))


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


_READERS: dict[str, Callable[[str, Sequence[str], range], Nested | None]] = {
    **dict.fromkeys(_SHELLS, _of_shell),
    **dict.fromkeys(_SSH, _of_ssh),
    **dict.fromkeys(_ALL_WORDS, _of_all),
    **dict.fromkeys(_READ_SCRIPTS, _of_input),
    **dict.fromkeys((*_CODE_OPTIONS, *_COMMAND_OPTIONS), _of_options),
    **dict.fromkeys(("awk", "gawk", "mawk", "nawk"), _of_awk),
    **dict.fromkeys(_DECLARATIONS, _of_declaration),
    **dict.fromkeys(("read", "unset"), _of_variables),
    **dict.fromkeys(("[", "[[", "test"), _of_test),
    **dict.fromkeys(("mapfile", "readarray"), _of_mapfile),
    **dict.fromkeys((".", "source"), _of_source),
    **dict.fromkeys(("sed", "gsed"), _of_sed),
    "env": _of_env,
    "parallel": _of_parallel,
    "printf": _of_printf,
}
