"""What is written for people is complete: every command has its help and its place in the documents."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from rsloc_db.cli import app
from rsloc_db.config import Settings

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command that does something."""
    children = getattr(command, "commands", {})
    if path and (not children or getattr(command, "invoke_without_command", False)):
        yield path
    for name, child in children.items():
        yield from _commands(child, (*path, name))


COMMANDS = list(_commands(typer.main.get_command(app)))


def test_all_commands_are_seen() -> None:
    assert {("ingest",), ("localize",), ("galleries",), ("db", "start"), ("tiles", "at"), ("truth", "load")} <= {
        *COMMANDS
    }


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_has_help(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*words, "--help"])
    assert done.exit_code == 0, done.output
    assert "Usage" in done.output
    # what it does is said below the usage line, and an example below that
    assert len(done.output.split("Usage", 1)[1].split()) > 8
    assert f"rsloc-db {' '.join(words)}" in done.output.split("Examples:")[1]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_is_in_the_documents(words: tuple[str, ...]) -> None:
    text = " ".join(path.read_text() for path in DOCUMENTS)
    called = re.escape(" ".join(words))
    pattern = rf"rsloc-db {called}\b|`{called}\b" if len(words) > 1 else rf"rsloc-db {called}\b"
    assert re.search(pattern, text), f"no document shows {' '.join(words)}"


@pytest.mark.parametrize("name", [field for field in Settings.model_fields if field != "cache"])
def test_a_setting_is_in_the_readme(name: str) -> None:
    assert f"`RSLOC_{name.upper()}`" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        if not target.startswith("https://"):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_makefile_says_what_it_can() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.*)$", text, flags=re.MULTILINE).group(1).split()) - {"help"}  # type: ignore[union-attr]
    assert targets == {"setup", "demo", "test", "lint", "clean"}
    for target in targets:
        assert f"make {target} " in text
    for extra in ("demo", "test"):
        assert extra in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
