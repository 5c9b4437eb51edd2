"""Commands on galleries: ingest, galleries list, show, index, delete and drop-model."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

import rsloc_db
from rsloc_db.cli import common
from rsloc_db.models import DEFAULT, MODELS
from rsloc_db.types import IndexChoice

if TYPE_CHECKING:
    from rsloc_db.db.connection import Connection
    from rsloc_db.db.galleries import GalleryOverview
    from rsloc_db.stages.ingest import IngestSummary

app = typer.Typer(
    help="List, show and delete galleries, and what models made of them.",
    invoke_without_command=True,
    epilog=common.examples("rsloc-db galleries", "rsloc-db galleries --json", "rsloc-db galleries show france"),
)

FAILURES_SHOWN = 20
Index = Annotated[str, typer.Option(help="How vectors are searched: exact | hnsw | auto, by their number.")]
Name = Annotated[str, typer.Argument(help="Name of the gallery: `rsloc-db galleries` lists them.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

EXAMPLES = common.examples(
    "rsloc-db ingest galleryL15.db",
    "rsloc-db ingest gallery.db --level 15 --name france",
    "rsloc-db ingest region.tif --images reference --workers 4",
    "rsloc-db ingest galleryL15-new.db --name galleryL15 --replace",
    "rsloc-db ingest galleryL15.db --model onnx:network.onnx",
)


def ingest(
    path: Annotated[Path, typer.Argument(help="ge_tiles SQLite, MBTiles, XYZ folder, GeoTIFF or COG.")],
    name: Annotated[str | None, typer.Option(help="Name of the gallery (default: the file's own).")] = None,
    level: Annotated[int | None, typer.Option(help="Level to take (default: all that the source has).")] = None,
    images: Annotated[str, typer.Option(help="stored in the database, or reference: read from PATH.")] = "stored",
    replace: Annotated[
        bool, typer.Option("--replace", help="Build it beside the gallery of that name, then swap.")
    ] = False,
    model: Annotated[str, typer.Option(help=f"Embedder: {MODELS}.")] = DEFAULT,
    windows: Annotated[
        list[int] | None, typer.Option("--windows", "--window", help="Width of windows in tiles (default: 1 and 3).")
    ] = None,
    index: Index = "auto",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes (default: RSLOC_WORKERS or all cores).")] = None,
    scheduler: common.Scheduler = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Json = False,
) -> None:
    """Load tiles into a gallery, embed and index them. Run it again to go on after a stop; another PATH extends it."""
    with common.progress(quiet=quiet) as progress:
        summary = rsloc_db.ingest(
            path,
            name=name,
            level=level,
            images=images,
            replace=replace,
            model=model,
            windows=tuple(windows or (1, 3)),
            index=cast(IndexChoice, index),
            workers=workers,
            scheduler=scheduler,
            progress=progress,
        )
    if as_json:
        common.print_json(asdict(summary))
    else:
        _print_summary(summary)


def _print_summary(s: IngestSummary) -> None:
    tiles = ", ".join(f"{count:,} tiles of level {level}" for level, count in s.tiles.items())
    common.stdout.print(f"gallery {s.gallery} is ready: {tiles}; {s.added:,} new, {s.embedded:,} windows embedded")
    for name, kind in s.indexes.items():
        level, window = name.split("/")
        common.stdout.print(f"level {level}, windows of {window} x {window} tiles: {kind} search")
    if s.skipped:
        common.stdout.print(f"{s.skipped:,} broken tiles were skipped: see `rsloc-db galleries show {s.gallery}`")
    common.stdout.print(f"{s.seconds:.1f} s")


@app.callback()
def list_galleries(context: typer.Context, as_json: Json = False) -> None:
    """List all galleries."""
    if context.invoked_subcommand is not None:
        return
    from rsloc_db.db import galleries

    with closing(_connect()) as conn:
        found = galleries.list_galleries(conn)
    if as_json:
        common.print_json({"galleries": [asdict(each) for each in found]})
    elif not found:
        common.stdout.print("no gallery yet: run `rsloc-db ingest PATH`")
    else:
        for each in found:
            _print_brief(_described(each))


@app.command(epilog=common.examples("rsloc-db galleries show france"))
def show(name: Name, as_json: Json = False) -> None:
    """Show a gallery and the tiles that were skipped."""
    from rsloc_db.db import galleries

    with closing(_connect()) as conn:
        gallery = galleries.get_gallery(conn, name)
        overview = next(each for each in galleries.list_galleries(conn) if each.name == name)
        failures = galleries.list_failures(conn, gallery.id)
    if as_json:
        common.print_json(asdict(overview) | {"skipped": [asdict(each) for each in failures]})
        return
    for key, value in _described(overview).items():
        common.stdout.print(f"{key:<12} {value}")
    for each in failures[:FAILURES_SHOWN]:
        common.stdout.print(f"skipped      {each.name}: {each.reason}")
    if len(failures) > FAILURES_SHOWN:
        common.stdout.print(f"             and {len(failures) - FAILURES_SHOWN:,} more: --json lists all")


@app.command(epilog=common.examples("rsloc-db galleries delete france", "rsloc-db galleries delete france --yes"))
def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Delete a gallery with its tiles, images and embeddings; results of runs on it stay.

    Run it again to go on after a stop: what is deleted is not searched any more.
    """
    from rsloc_db.db import galleries

    with closing(_connect()) as conn, galleries.lock(conn, name):
        gallery = galleries.get_gallery(conn, name)
        if not yes:
            typer.confirm(f"Delete gallery {name}?", abort=True, err=True)
        with common.progress(quiet=quiet) as progress:
            galleries.delete_gallery(conn, gallery.id, progress)
    common.stdout.print(f"gallery {name} is deleted")


@app.command("drop-model", epilog=common.examples("rsloc-db galleries drop-model france clip:clip-vit-base-patch32"))
def drop_model(
    name: Name,
    model: Annotated[str, typer.Argument(help="Model, as `rsloc-db galleries` shows it.")],
    weights: Annotated[str, typer.Option(help="Beginning of its weights' hash, if the gallery has several.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Drop what one model embedded of a gallery; tiles and other models' embeddings stay.

    Runs that searched it stay too, but can no longer be evaluated: their queries count as unlabelled.
    """
    from rsloc_db.db import embeddings, galleries

    with closing(_connect()) as conn, galleries.lock(conn, name):
        gallery = galleries.get_gallery(conn, name)
        if not yes:
            typer.confirm(f"Drop the embeddings by {model} from gallery {name}?", abort=True, err=True)
        embeddings.drop_model(conn, gallery.id, model, weights)
    common.stdout.print(f"embeddings by {model} are dropped from gallery {name}")


@app.command(epilog=common.examples("rsloc-db galleries index france", "rsloc-db galleries index france --index hnsw"))
def index(
    name: Name,
    kind: Annotated[str, typer.Option("--index", help="exact | hnsw | auto, by the number of vectors.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Json = False,
) -> None:
    """Build a gallery's indexes anew, of another kind or after an upgrade of pgvector; searches go on meanwhile."""
    from rsloc_db.stages.ingest import index_gallery

    if kind not in get_args(IndexChoice):
        raise typer.BadParameter(f"expected {' or '.join(get_args(IndexChoice))}", param_hint="--index")
    with common.progress(quiet=quiet) as progress:
        kinds = index_gallery(name, index=cast(IndexChoice, kind), progress=progress)
    if as_json:
        common.print_json({"gallery": name, "indexes": kinds})
        return
    for windows, built in kinds.items():
        common.stdout.print(f"{windows}: {built} search")


def _connect() -> Connection:
    from rsloc_db.db.connection import connect, require_schema

    conn = connect(autocommit=True)
    require_schema(conn)
    return conn


def _described(g: GalleryOverview) -> dict[str, str]:
    west, south, east, north = g.extent or (0.0, 0.0, 0.0, 0.0)
    return {
        "name": g.name,
        "status": g.status,
        "grid": g.grid,
        "levels": ", ".join(map(str, g.levels)),
        "tiles": f"{g.tiles:,}",
        "cells": f"{g.cells:,}",
        "dates": f"{g.first_date:%Y-%m-%d} to {g.last_date:%Y-%m-%d}" if g.first_date and g.last_date else "none",
        "extent": f"{west:.4f} {south:.4f} {east:.4f} {north:.4f}" if g.extent else "none",
        "images": g.images,
        "windows": _windows(g.embeddings),
        "size": f"{g.size_bytes / 1e6:,.1f} MB",
        "failures": f"{g.failures:,}",
        "source": f"{g.source} ({g.source_kind})",
        "attribution": g.attribution,
    }


def _print_brief(g: dict[str, str]) -> None:
    common.stdout.print(f"{g['name']}  {g['status']}  {g['size']}  images {g['images']}", style="bold")
    common.stdout.print(f"  {g['grid']} level {g['levels']}: {g['tiles']} tiles in {g['cells']} cells, {g['dates']}")
    common.stdout.print(f"  extent {g['extent']}")
    common.stdout.print(f"  windows by {g['windows'] or 'none'}; {g['failures']} broken tiles skipped")


def _windows(sets: list[dict[str, object]]) -> str:
    """Say per model, weights and index kind which windows there are, as level/width."""
    found: dict[str, list[str]] = {}
    for each in sets:
        key = f"{each['model']} {str(each['weights_hash'])[:8]} ({each['index_kind'] or 'incomplete'})"
        found.setdefault(key, []).append(f"{each['level']}/{each['window_tiles']}")
    return "; ".join(f"{key}: {', '.join(windows)}" for key, windows in found.items())
