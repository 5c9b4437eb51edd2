"""`rsloc-db serve`: the map page and the service."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from rsloc_db.cli import common
from rsloc_db.errors import ServerError
from rsloc_db.models import DEFAULT

EXAMPLES = common.examples("rsloc-db serve", 'rsloc-db serve --host 0.0.0.0 --token "$(openssl rand -hex 16)"')


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; other machines reach 0.0.0.0.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8765,
    token: Annotated[
        str | None,
        typer.Option(
            help="Token that those who write must send.",
            show_default="RSLOC_TOKEN; where other machines can reach the service and there is none, a new one",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Name by which the service may be asked for; may be repeated.")
    ] = None,
    model: Annotated[str, typer.Option(help="Model whose embeddings are searched, as given to ingest.")] = DEFAULT,
    max_upload: Annotated[float, typer.Option(min=0.001, help="Largest image that is taken, MB.")] = 64,
    max_megapixels: Annotated[float, typer.Option(min=0.01, help="Most pixels of an image, millions.")] = 50,
    max_seconds: Annotated[float, typer.Option(min=1, help="Longest time that an image may take.")] = 600,
    max_waiting: Annotated[int, typer.Option(min=1, help="Images that may wait.")] = 16,
    keep_uploads: Annotated[float, typer.Option(min=1, help="Room for uploaded images, MB; the oldest go.")] = 2000,
) -> None:
    """Serve a map page to drop images on and to look at runs and galleries, and a JSON API of the same.

    It listens to this machine alone unless --host says otherwise. Nothing is loaded from the internet.
    """
    try:
        import uvicorn

        from rsloc_db.service.app import create_app
        from rsloc_db.service.options import ServiceOptions, is_loopback
    except ModuleNotFoundError as error:
        raise ServerError(f"the service needs {error.name}: pip install 'rsloc-db[serve]'") from error
    from rsloc_db.config import settings
    from rsloc_db.db.server import database_url

    secret = settings().token
    given = token or (secret.get_secret_value() if secret else None)
    if given is None and not is_loopback(host):
        given = secrets.token_urlsafe(18)
        common.stderr.print(f"token for writing: {given}", soft_wrap=True)
    options = ServiceOptions(
        host=host,
        port=port,
        token=given,
        hosts=tuple(allow_host or ()),
        model=model,
        max_upload_mb=max_upload,
        max_megapixels=max_megapixels,
        max_seconds=max_seconds,
        max_waiting=max_waiting,
        keep_uploads_mb=keep_uploads,
    )
    app = create_app(database_url(), options)
    common.stdout.print(f"http://{host}:{port}/")
    uvicorn.run(app, host=host, port=port, log_level="warning", limit_concurrency=100, server_header=False)
