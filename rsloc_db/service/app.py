"""The application: routers, middleware, what they share, and the page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

import rsloc_db
from rsloc_db.db.connection import connect, require_schema, schema_version
from rsloc_db.db.readers import prepare_reader, reader_pool, reader_url
from rsloc_db.errors import ServerError
from rsloc_db.service import features, galleries, jobs, localizations, runs, tiles
from rsloc_db.service.access import Reader, answer_errors, problems
from rsloc_db.service.job_queue import JobQueue
from rsloc_db.service.limits import BodyLimit
from rsloc_db.service.metrics import CONTENT_TYPE, Measure, Metrics
from rsloc_db.service.nouns import Health
from rsloc_db.service.options import ServiceOptions
from rsloc_db.service.overviews import Overviews
from rsloc_db.service.security import Guard

PAGE = Path(__file__).parent / "page"
DESCRIPTION = """Where overhead images were taken, in galleries of georeferenced tiles.

Coordinates are longitude and latitude in degrees (WGS 84), lengths are metres on the ground unless a name says
otherwise. `/ogc` is an OGC API Features service for QGIS and others."""

router = APIRouter(tags=["service"])


def create_app(url: str, options: ServiceOptions | None = None) -> FastAPI:
    """Put the service together; connections are opened when it starts and closed when it ends.

    Args:
        url: PostgreSQL URL with the right to write, which jobs alone use.
        options: what it is started with.

    Raises:
        ServerError: the page's map library is not there: the package was not built.
    """
    options = options or ServiceOptions()
    if not (PAGE / "leaflet" / "leaflet.js").is_file():
        raise ServerError("the page's map library is missing: install the package anew (`make setup`)")
    metrics = Metrics()
    app = FastAPI(
        title="rsloc-db",
        version=rsloc_db.__version__,
        description=DESCRIPTION,
        lifespan=_lifespan(url, options, metrics),
        # their pages would load scripts from the network
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    for part in (galleries, tiles, runs, localizations, jobs, features):
        app.include_router(part.router)
    app.include_router(router)
    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    answer_errors(app)
    # the last one added is the first to see a request
    app.add_middleware(BodyLimit, most_bytes=options.max_upload_bytes)
    app.add_middleware(Guard, options=options)
    app.add_middleware(Measure, metrics=metrics)
    return app


def _lifespan(
    url: str, options: ServiceOptions, metrics: Metrics
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with connect(url) as conn:
            require_schema(conn)
        app.state.as_role = prepare_reader(url)
        app.state.reader_url = reader_url(url, timeout_s=options.statement_seconds, as_role=app.state.as_role)
        app.state.options, app.state.metrics, app.state.overviews = options, metrics, Overviews()
        app.state.pool = reader_pool(app.state.reader_url)
        with app.state.pool.connection() as conn:
            app.state.overviews.get(conn)
        app.state.queue = JobQueue(
            url,
            max_pixels=options.max_pixels,
            max_seconds=options.max_seconds,
            max_waiting=options.max_waiting,
            ended=metrics.job_ended,
        )
        try:
            yield
        finally:
            app.state.queue.close()
            app.state.pool.close()

    return lifespan


@router.get("/", include_in_schema=False)
def page() -> FileResponse:
    """Return the page."""
    return FileResponse(PAGE / "index.html")


@router.get("/health", responses=problems())
def health(request: Request, conn: Reader) -> Health:
    """Tell whether the database answers and how many images wait."""
    queue = request.app.state.queue
    return Health(
        version=rsloc_db.__version__,
        schema_version=schema_version(conn) or "",
        read_only_role=request.app.state.as_role,
        waiting=queue.count("waiting"),
        running=queue.count("running"),
    )


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, response_class=Response)
def metrics(request: Request) -> Response:
    """Return the service's figures in Prometheus' text format."""
    figures: Metrics = request.app.state.metrics
    figures.waiting.set(request.app.state.queue.count("waiting"))
    figures.running.set(request.app.state.queue.count("running"))
    stats = request.app.state.pool.get_stats()
    figures.connections.labels("open").set(stats.get("pool_size", 0))
    figures.connections.labels("free").set(stats.get("pool_available", 0))
    return Response(figures.text(), media_type=CONTENT_TYPE)
