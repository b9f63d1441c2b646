"""Runs the blocks of a page: what a reader would type, compared with what the page says they see.

A fenced block may say what it is: ``file=NAME`` is put into that file, ``background`` is started
and kept running, and in a ``console`` block each line that begins with "$ " is run and the lines
below it are what it must print; "..." stands for anything.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Block:
    language: str
    info: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    return [
        Block(language, info.strip(), text)
        for language, info, text in FENCE.findall(page.read_text())
    ]


@dataclass
class Command:
    line: str
    expected: str


def commands_of(block: Block) -> list[Command]:
    commands: list[Command] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            commands.append(Command(line[2:], ""))
        else:
            commands[-1].expected += line + "\n"
    return commands


def matches(expected: str, actual: str) -> bool:
    """Compare as a reader would: runs of spaces are one, "..." is anything, also several lines."""

    def normal(text: str) -> str:
        return "\n".join(" ".join(line.split()) for line in text.strip().splitlines())

    pattern = ".*".join(re.escape(part.strip(" ")) for part in normal(expected).split("..."))
    return re.fullmatch(pattern.replace("\\ ", r"\s+"), normal(actual), re.DOTALL) is not None


def run(command: Command, folder: Path, environment: dict[str, str]) -> str:
    """Run a command line as a reader would type it, and return what it prints."""
    done = subprocess.run(
        ["bash", "-c", command.line],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=40,
        check=False,
    )
    return done.stdout
