"""The project of a new pack: its files and its names."""

import json
import keyword
import re
import sys
import unicodedata
from pathlib import Path

import msgspec

from flyteops import __version__
from flyteops.errors import ConflictError, InputError

MAX_NAME_LENGTH = 60

_TAKEN = frozenset(
    {*keyword.kwlist, *sys.stdlib_module_names, "click", "flyteops", "httpx2", "msgspec", "pytest"}
)

_MODULE = '''\
"""The pack {name}: its commands and its events."""

from dataclasses import dataclass

from flyteops.sdk import Pack

pack = Pack({quoted})


@dataclass
class Greeted:
    """An event: somebody was greeted."""

    text: str


@pack.command()
async def greet(*, name: str, greeting: str = "Hello") -> Greeted:
    """Greet somebody; flows call this command `Greet`."""
    return Greeted(f"{{greeting}} {{name}}")


if __name__ == "__main__":
    pack.run()
'''

_TEST = '''\
"""The pack at work, without a server."""

from flyteops.sdk import Event, fatal
from flyteops.sdk.testing import run_command

from {module} import Greeted, pack


def test_it_greets() -> None:
    assert run_command(pack, "Greet", {{"name": "Ann"}}) == Event("Greeted", Greeted("Hello Ann"))


def test_it_says_what_is_missing() -> None:
    answer = fatal("the input of Greet is not valid: name: is missing")
    assert run_command(pack, "Greet", {{}}) == answer
'''

_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{distribution}"
version = "0.1.0"
description = "The pack {name} for Flyte."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["flyteops>={version}"]

[project.entry-points."flyte.packs"]
{quoted} = "{module}:pack"

[dependency-groups]
test = ["pytest"]

[tool.hatch.build.targets.wheel]
include = ["{module}.py"]
"""

_README = """\
# {name}

A pack for Flyte. It has the command `Greet` and the event `Greeted`, in `{module}.py`.

```sh
python -m pip install -e ../flyte pytest      # "../flyte" is the folder of Flyte's source
python -m pytest
flyte pack run {module}.py
```

The server is the one that `FLYTE_API` names, else `http://127.0.0.1:8080`. This flow greets
everyone who says so in the chat; put it into `greet.yaml`, and `flyte apply greet.yaml` saves it on
the server. (`flyte apply` needs what `python -m pip install -e "../flyte[server]"` installs.)

```yaml
name: {folder}
steps:
  - id: greet
    event: {{packName: Chat, name: ReceivedMessage}}
    criteria: "{{{{ Event.Payload.message|match:'^greet me$' }}}}"
    context: {{channel: "{{{{ Event.Payload.channelId }}}}"}}
    command:
      packName: {quoted}
      name: Greet
      input: {{name: "{{{{ Event.Payload.user.name }}}}"}}
  - id: tell
    dependsOn: [greet]
    event: {{packName: {quoted}, name: Greeted}}
    command:
      packName: Chat
      name: SendMessage
      input: {{channelId: "{{{{ Context.channel }}}}", message: "{{{{ Event.Payload.text }}}}"}}
```

Where `python -m pip install .` was run, `flyte pack list` shows the pack, and
`flyte pack run {shown}` runs it.
"""

_GITIGNORE = """\
.flyte/
__pycache__/
.pytest_cache/
.venv/
dist/
"""


class Project(msgspec.Struct, frozen=True):
    """A project for a pack of this name.

    `folder` and `module` are made of its Latin letters and digits.
    """

    name: str
    folder: str
    module: str

    @classmethod
    def called(cls, name: str) -> "Project":
        """Derive all names; raise `InputError` for a name that gives none."""
        name = unicodedata.normalize("NFC", name.strip())
        odd = sorted({letter for letter in name if not (letter.isalnum() or letter in " -_")})
        if odd:
            held = " ".join(map(repr, odd))
            message = (
                f"{name!r} cannot be the name of a pack: it holds {held}, not only letters, digits,"
                " blanks, - and _"
            )
            raise InputError(message)
        if len(name) > MAX_NAME_LENGTH:
            message = (
                f"the name of a pack has {MAX_NAME_LENGTH} letters at most; this one has"
                f" {len(name)}"
            )
            raise InputError(message)
        plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
        words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", plain).lower())
        if all(map(str.isdecimal, words)):
            message = (
                f"{name!r} has no letters from a to z, which a module name needs; choose such a"
                " name, and change it in `Pack(…)`"
            )
            raise InputError(message)
        return cls(name, "-".join(words), _module("_".join(words)))

    def files(self) -> dict[str, str]:
        """Return the contents of the project's files."""
        words = {
            "name": self.name,
            "quoted": json.dumps(self.name, ensure_ascii=False),
            "shown": f"'{self.name}'" if " " in self.name else self.name,
            "folder": self.folder,
            "module": self.module,
            "distribution": self.folder
            if self.folder.startswith("flyte-")
            else f"flyte-{self.folder}",
            "version": __version__,
        }
        return {
            f"{self.module}.py": _MODULE.format_map(words),
            f"test_{self.module}.py": _TEST.format_map(words),
            "pyproject.toml": _PYPROJECT.format_map(words),
            "README.md": _README.format_map(words),
            ".gitignore": _GITIGNORE,
        }

    def write(self, place: Path) -> Path:
        """Create the folder with its files; raise `ConflictError` if the name exists already."""
        folder = place / self.folder
        try:
            folder.mkdir()
        except FileExistsError:
            message = f"{folder} exists already; nothing was changed"
            raise ConflictError(message) from None
        except OSError as error:
            message = f"{folder} cannot be made: {error.strerror}"
            raise InputError(message) from error
        for name, text in self.files().items():
            (folder / name).write_text(text, encoding="utf-8")
        return folder


def _module(name: str) -> str:
    if name[0].isdecimal():
        name = f"pack_{name}"
    return f"{name}_pack" if name in _TAKEN else name
