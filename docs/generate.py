"""Write the reference pages that are made from the code; tests fail when they are stale."""

from pathlib import Path

from flyteops.cli import manual
from flyteops.settings.page import reference

PAGES = {"settings.md": reference, "cli.md": manual.reference}


def main() -> None:
    """Write every page, and say which have changed."""
    for name, make in PAGES.items():
        page = Path(__file__).parent / "reference" / name
        text = make()
        changed = not page.exists() or page.read_text() != text
        page.write_text(text)
        print(f"docs/reference/{name}: {'changed' if changed else 'as it was'}")


if __name__ == "__main__":
    main()
