"""The reference page of the settings, made from their table."""

from flyteops.settings import default_text, option_of, table


def reference() -> str:
    """Return the reference page of the settings, in Markdown."""
    lines = [
        "# Settings",
        "",
        (
            "The server reads its settings from the environment; each one is also an option of"
            " `flyte serve`, which overrides the"
        ),
        (
            "variable. Blank values count as not given. Times are seconds, or durations such as"
            " `1m30s` or `7d`."
        ),
        "All errors are reported at once, and the exit code is 2. An",
        "unknown `FLYTE_...` variable is reported at startup, with the nearest known name.",
        "",
        (
            "Packs read variables of their own, see [the SDK](sdk.md#environment), and so do the"
            " [other commands](cli.md)."
        ),
    ]
    group = ""
    for field, setting in table():
        if setting.group != group:
            group = setting.group
            lines += [
                "",
                f"## {group}",
                "",
                "| Variable | Option | Default | Meaning |",
                "|---|---|---|---|",
            ]
        shown = default_text(field, setting)
        default = f"`{shown}`" if shown and setting.shown is None else shown
        lines.append(
            f"| `{setting.variable}` | `{option_of(field)} {setting.metavar}` | {default} |"
            f" {setting.help} |"
        )
    return "\n".join([*lines, ""])
