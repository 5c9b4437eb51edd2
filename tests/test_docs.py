"""What is written for people is complete: every command has its help and its place in the documents."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
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
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


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


def _shown() -> Iterator[tuple[str, str]]:
    """Yield every call of the program that a document shows, with the document."""
    for path in DOCUMENTS:
        for block in re.findall(r"^```\w*\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL):
            for line in re.findall(r"^(?:\$ )?rsloc-db (.*)$", block, re.MULTILINE):
                # up to the comment, the pipe or the redirection; dots stand for more words
                yield str(path.relative_to(ROOT)), re.split(r"\s+(?:#|\||>)", line)[0]


@pytest.mark.parametrize(("document", "line"), list(dict.fromkeys(_shown())))
def test_a_shown_call_is_one_that_the_program_takes(document: str, line: str) -> None:
    words = shlex.split(line)
    if words[0] in ("--install-completion", "-q", "--quiet", "--debug"):
        return
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
    command.make_context("rsloc-db", [word for word in words if word != "..."])


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs-material is not installed (extra docs)")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pages = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*.html")}
    assert "rsloc-db localize" in pages["reference/commands.html"]
    assert "clique_hit" in pages["reference/tables.html"]
    assert "gsd_factor" in pages["reference/python.html"]
    for name, text in pages.items():
        # nothing is loaded from elsewhere
        assert not re.search(r"<(?:script|img|link)[^>]+(?:src|href)=\"https?://(?!squidfunk)", text), name


@pytest.mark.parametrize("name", [field for field in Settings.model_fields if field != "cache"])
def test_a_setting_is_in_the_readme(name: str) -> None:
    assert f"`RSLOC_{name.upper()}`" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        if not target.startswith("https://"):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_the_documents_show_the_newest_schema() -> None:
    newest = max(path.name[:4] for path in (ROOT / "migrations" / "versions").glob("[0-9]*.py"))
    shown = [
        v for path in DOCUMENTS for v in re.findall(r"^schema (?:version)? *(\d{4})$", path.read_text(), re.MULTILINE)
    ]
    assert shown
    assert {*shown} == {newest}


def test_makefile_says_what_it_can() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.*)$", text, flags=re.MULTILINE).group(1).split()) - {"help"}  # type: ignore[union-attr]
    assert targets == {"setup", "demo", "test", "lint", "docs", "clean"}
    for target in targets:
        assert f"make {target} " in text
    for extra in ("demo", "docs", "test"):
        assert extra in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_hooks_and_issue_templates_are_valid() -> None:
    pytest.importorskip("pre_commit", reason="pre-commit is not installed (extra test)")
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-config", ".pre-commit-config.yaml"], cwd=ROOT, check=False
    )
    assert done.returncode == 0
    yaml = pytest.importorskip("yaml")
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text())
        if path.name != "config.yml":
            assert form["name"], path
            assert form["description"], path
            assert {part["type"] for part in form["body"]} <= {"textarea", "dropdown", "input", "markdown"}
