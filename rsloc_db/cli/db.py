"""rsloc-db db: the database server, the schema, and backups."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsloc_db.cli.common import examples, print_json, progress, stdout
from rsloc_db.types import Json

app = typer.Typer(
    no_args_is_help=True,
    help="Run the database server, bring the schema up to date, back up and restore.\n\n"
    "The server is the one that RSLOC_DATABASE_URL names, if that is set. Otherwise an embedded one is kept in "
    "RSLOC_HOME (default: your data folder; as root /var/lib/rsloc-db). It is run by this machine's PostgreSQL if that "
    "has PostGIS and pgvector >= 0.7, else by a private copy of Debian's packages, fetched once without root.\n\n"
    "Every command that needs the database starts the embedded server by itself. Settings of your own for it go into "
    "local.conf in its data folder, which `rsloc-db db status` names.",
)

Replace = Annotated[bool, typer.Option("--replace", help="Overwrite what is there: the file, or the database.")]


@app.command(epilog=examples("rsloc-db db start"))
def start() -> None:
    """Start the embedded server, making it first where there is none; it goes on after this command ends."""
    from rsloc_db.db import server

    if server.own_url():
        stdout.print("RSLOC_DATABASE_URL names your own server: nothing to start")
        return
    with progress() as bar:
        server.start(bar)
    found = server.status()
    stdout.print(
        f"PostgreSQL {found['postgresql']} runs on {found['host']}:{found['port']}, database {found['database']}"
    )


@app.command(epilog=examples("rsloc-db db stop"))
def stop() -> None:
    """Stop the embedded server. Sessions are ended and their open transactions undone; nothing committed is lost."""
    from rsloc_db.db import server

    stdout.print("stopped" if server.stop() else "it did not run")


@app.command(epilog=examples("rsloc-db db status", "rsloc-db db status --json"))
def status(json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Tell which server is used, whether it runs, its versions, where the data lie, and what to beware of."""
    from rsloc_db.db import server

    found = server.status()
    if json:
        print_json(found)
        return
    for name, value in _lines(found).items():
        stdout.print(f"{name:<12} {value}")
    for warning in found["warnings"]:
        stdout.print(f"{'warning':<12} {warning}", style="yellow")


def _lines(found: Json) -> dict[str, str]:
    """Return what there is to say, in the order to say it."""
    kinds = {
        "own": "your own (RSLOC_DATABASE_URL)",
        "embedded": f"embedded, programs in {found['programs']}",
        "none": f"none yet: `rsloc-db db start` makes one in {found['home']}",
    }
    lines = {"server": kinds[found["server"]], "running": "yes" if found["running"] else "no"}
    if found["running"]:
        lines["address"] = f"{found['host']}:{found['port']}, database {found['database']}"
        lines["database"] = f"{found['database_bytes'] / 1e6:,.1f} MB"
        lines["schema"] = found["schema"] or "none"
    names = {"postgresql": "PostgreSQL", "postgis": "PostGIS", "pgvector": "pgvector", "proj": "PROJ"}
    lines |= {label: found[name] for name, label in names.items() if found[name]}
    if found["data_folder"]:
        lines["data"] = f"{found['data_folder']} ({found['data_bytes'] / 1e6:,.1f} MB, user {found['user']})"
    if found["packages"]:
        lines["installed"] = f"{found['installed_at']}, {len(found['packages'])} Debian packages (--json lists them)"
    return lines


@app.command(epilog=examples("rsloc-db db upgrade"))
def upgrade() -> None:
    """Bring the schema to this program's version; a schema that is there already keeps its data.

    Back up first: `rsloc-db db backup before.dump`.
    """
    from rsloc_db.db import schema, server
    from rsloc_db.db.connection import connect
    from rsloc_db.db.galleries import list_galleries

    url = server.database_url()
    schema.upgrade(url)
    stdout.print(f"schema version {schema.current(url)}")
    with connect(url) as conn:
        waiting = [gallery.name for gallery in list_galleries(conn) if gallery.status == "loading"]
    if waiting:
        stdout.print(f"not ready: {', '.join(waiting)}; run `rsloc-db ingest` on their sources again")


@app.command(epilog=examples('psql "$(rsloc-db db url)"'))
def url() -> None:
    """Print the database's URL WITH ITS PASSWORD, for other programs: psql "$(rsloc-db db url)", QGIS, SQLAlchemy."""
    from rsloc_db.db import server

    typer.echo(server.database_url())


@app.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
    epilog=examples(
        "rsloc-db db psql", 'rsloc-db db psql -c "SELECT count(*) FROM tile"', "rsloc-db db psql -f mine.sql"
    ),
)
def psql(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[ARGS]...", help="Arguments for psql.")] = None,
) -> None:
    """Open psql on the database. What follows goes to psql, and its exit code comes back."""
    from rsloc_db.db import server

    raise typer.Exit(server.psql(arguments or []))


@app.command(epilog=examples("rsloc-db db backup rsloc.dump"))
def backup(
    file: Annotated[Path, typer.Argument(help="File to write; it appears only when it is whole.")],
    replace: Replace = False,
) -> None:
    """Write the whole database into one file (pg_dump's custom format) while others go on working."""
    from rsloc_db.db import server

    server.backup(file, replace=replace)
    stdout.print(f"{file}: {file.stat().st_size / 1e6:,.1f} MB")


@app.command(epilog=examples("rsloc-db db restore rsloc.dump --replace"))
def restore(
    file: Annotated[Path, typer.Argument(help="File that `rsloc-db db backup` wrote.")],
    replace: Replace = False,
) -> None:
    """Put a backup in the place of the database. If that fails the old data stay; room for both is needed.

    Without --replace the database must be empty. Run `rsloc-db db upgrade` afterwards if the backup is older.
    """
    from rsloc_db.db import server

    with progress() as bar:
        server.restore(file, replace=replace, progress=bar)
    stdout.print(f"{file} is restored")
