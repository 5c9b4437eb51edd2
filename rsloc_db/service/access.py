"""What requests get at: the readers' connections, the options; and how errors become answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import psycopg
from fastapi import Depends, FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from psycopg_pool import PoolTimeout

from rsloc_db.db.connection import Connection
from rsloc_db.errors import GalleryError, ImageError, RslocError, RunError, SchemaError, ServerError
from rsloc_db.service.nouns import MAX_BIG_KEY, MAX_KEY, Problem
from rsloc_db.service.options import ServiceOptions

Responses = dict[int | str, dict[str, Any]]

_MEANING = {
    400: "A value that is none",
    401: "The token is missing or wrong",
    403: "Another site's page asked for it",
    404: "There is no such thing",
    408: "The upload took too long",
    409: "It is over already",
    413: "Too large",
    415: "No image of a known format",
    422: "A parameter is missing or out of range",
    429: "Too many are waiting",
    503: "The database cannot be reached, or takes too long",
}


def problems(*codes: int) -> Responses:
    """Return what OpenAPI says of answers that are errors; 400, 422 and 503 may always come."""
    return {code: {"model": Problem, "description": _MEANING[code]} for code in sorted({400, 422, 503, *codes})}


def _reader(request: Request) -> Iterator[Connection]:
    with request.app.state.pool.connection() as conn:
        yield conn


def _options(request: Request) -> ServiceOptions:
    options: ServiceOptions = request.app.state.options
    return options


Reader = Annotated[Connection, Depends(_reader)]
"""A connection that can read and nothing else."""
Options = Annotated[ServiceOptions, Depends(_options)]
RunKey = Annotated[int, Path(ge=1, le=MAX_KEY, description="Number of the run")]
QueryKey = Annotated[int, Path(ge=1, le=MAX_BIG_KEY, description="Key of the query")]
TileKey = Annotated[int, Path(ge=1, le=MAX_BIG_KEY, description="Key of the tile")]


def answer_errors(app: FastAPI) -> None:
    """Make errors that are expected answers in one sentence; paths of files are never among it."""

    @app.exception_handler(RslocError)
    def _rsloc(request: Request, error: RslocError) -> JSONResponse:
        return _answer(_code(error), str(error))

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return _answer(422, f"{where}: {first['msg']}" if where else str(first["msg"]))

    @app.exception_handler(psycopg.DataError)
    def _data(request: Request, error: psycopg.DataError) -> JSONResponse:
        return _answer(400, str(error).splitlines()[0])

    @app.exception_handler(psycopg.errors.QueryCanceled)
    def _slow(request: Request, error: psycopg.errors.QueryCanceled) -> JSONResponse:
        return _answer(503, "the database takes too long: ask for less")

    @app.exception_handler(psycopg.OperationalError)
    def _away(request: Request, error: psycopg.OperationalError) -> JSONResponse:
        return _answer(503, "the database cannot be reached")

    @app.exception_handler(PoolTimeout)
    def _busy(request: Request, error: PoolTimeout) -> JSONResponse:
        return _answer(503, "all connections to the database are in use, or it cannot be reached")


def _code(error: RslocError) -> int:
    if isinstance(error, GalleryError | RunError | ImageError):
        return 404
    return 503 if isinstance(error, ServerError | SchemaError) else 422


def _answer(code: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status_code=code)
