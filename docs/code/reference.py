"""Write the reference pages of the site out of the code: commands, Python functions, tables and views, settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

import rsloc_db
from rsloc_db.cli import app
from rsloc_db.config import Settings
from rsloc_db.db.tables import metadata

ROOT = Path(__file__).resolve().parents[2]
COMMENT = re.compile(r"^COMMENT ON (VIEW|COLUMN|FUNCTION) ([\w.]+) IS\s+'((?:[^']|'')*)';", re.MULTILINE)


def pages() -> dict[str, str]:
    """Return the path of each generated page in docs/ and its text."""
    return {
        "reference/commands.md": commands(),
        "reference/python.md": functions(),
        "reference/tables.md": tables(),
        "reference/settings.md": settings(),
        "changes.md": (ROOT / "CHANGELOG.md").read_text(),
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text(),
    }


def commands() -> str:
    """Return the page of all commands, as their --help tells them."""
    root = typer.main.get_command(app)
    parts = ["# Commands\n", _text(root.help), _text(app.info.epilog)]
    parts += [_command(words, command) for words, command in walk(root) if words]
    return "\n".join(parts)


def walk(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the words and the object of a command and of all below it."""
    yield words, command
    for name, child in getattr(command, "commands", {}).items():
        yield from walk(child, (*words, name))


def _command(words: tuple[str, ...], command: Any) -> str:
    called = " ".join(("rsloc-db", *words))
    takes = [p for p in command.params if p.param_type_name == "argument"]
    shown = " ".join([called, *(p.name.upper() if p.required else f"[{p.name.upper()}]" for p in takes)])
    lines = [f"{'##' if len(words) == 1 else '###'} {called}\n", f"`{shown}`\n", _text(command.help)]
    rows = [_parameter(p) for p in command.params if getattr(p, "help", None)]
    if rows:
        lines += ["| | |", "|---|---|", *rows, ""]
    examples = re.findall(r"^ {2}(\S.*)$", command.epilog or "", re.MULTILINE)
    return "\n".join([*lines, *(["```", *examples, "```", ""] if examples else [])])


def _parameter(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    shown = parameter.show_default if isinstance(parameter.show_default, str) else None
    plain = parameter.default if isinstance(parameter.default, str | int | float | Path) else None
    default = shown or (plain if plain not in (None, True, False) else None)
    return f"| {names} | {_cell(parameter.help)}{f' Default: {_cell(str(default))}.' if default is not None else ''} |"


def _text(text: str | None) -> str:
    return "\n".join(line.strip() for line in (text or "").splitlines()) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def functions() -> str:
    """Return the page of the Python API, which mkdocstrings fills in."""
    names = [f"::: {module}.{name}\n" for name, module in sorted(rsloc_db._API.items())]
    head = "# Python\n\nThe functions of the package have the names and the options of the commands.\n"
    options = ("show_root_heading: false", "show_root_toc_entry: false", "heading_level: 3", "members_order: source")
    errors = "\n      ".join(["## Errors\n\n::: rsloc_db.errors\n    options:", *options]) + "\n"
    return "\n".join([head, *names, errors])


def tables() -> str:
    """Return the page of all tables, views and functions of the database with their comments."""
    lines = ["# Tables and views\n", "Out of the schema itself; [the drawing and recipes](../sql.md) show their use.\n"]
    for table in metadata.tables.values():
        lines += [f"## {table.name}\n", f"{table.comment}.\n", "| column | type | |", "|---|---|---|"]
        for column in table.columns:
            kind = str(column.type).lower().split("(")[0]
            lines.append(f"| `{column.name}` | {kind}{'' if column.nullable else ', not null'} | {column.comment} |")
        lines.append("")
    return "\n".join(lines + list(_views()))


def _views() -> Iterator[str]:
    text = "\n".join(path.read_text() for path in sorted((ROOT / "migrations" / "sql").glob("*.sql")))
    heading = {"VIEW": "view", "FUNCTION": "function"}
    for kind, name, comment in COMMENT.findall(text):
        said = comment.replace("''", "'").replace("|", "\\|")
        if kind == "COLUMN":
            yield f"- `{name.split('.')[1]}`: {said}"
        else:
            yield f"\n## {name} ({heading[kind]})\n\n{said}.\n"


def settings() -> str:
    """Return the page of the environment's variables."""
    told = dict(re.findall(r"^ {4,8}(\w+): (.+(?:\n {12}.+)*)", Settings.__doc__ or "", re.MULTILINE))
    rows = [f"| `RSLOC_{name.upper()}` | {' '.join(told[name].split())} |" for name in Settings.model_fields]
    head = [
        "# Settings\n",
        "What the environment says; all else is an option of a command.\n",
        "| variable | |",
        "|---|---|",
    ]
    return "\n".join([*head, *rows, ""])
