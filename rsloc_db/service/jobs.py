"""Jobs: an image goes in, its stages are told as they end, and it can be cancelled at any time."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, File, Form, HTTPException, Request, UploadFile
from fastapi import Path as PathParameter
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field

from rsloc_db.api import MAX_GSD_FACTOR
from rsloc_db.config import settings
from rsloc_db.db import service
from rsloc_db.db.connection import Connection
from rsloc_db.db.galleries import get_gallery
from rsloc_db.queries.scale import MAX_LEVEL
from rsloc_db.service.access import Options, Reader, problems
from rsloc_db.service.job_queue import Job, JobQueue, QueueFullError, State
from rsloc_db.service.options import MEGABYTE
from rsloc_db.service.uploads import UnknownFormatError, keep, make_room
from rsloc_db.types import Pixels, Rotation

router = APIRouter(prefix="/api", tags=["jobs"])

LISTED = 50
# documentation alone: the token is checked before a body is read, by ``security.Guard``
TOKEN = Depends(HTTPBearer(auto_error=False, description="Needed where the service was started with a token"))
JobKey = Annotated[str, PathParameter(pattern="^[0-9a-f]{32}$", description="Key of the job")]


class Stage(BaseModel):
    """A stage that has ended: read, retrieve, cliques, verify or refine; some come twice where all is searched."""

    name: str
    seconds: float


class JobAnswer(BaseModel):
    """An uploaded image on its way. ``run`` and ``query`` lead to the answer once it is done."""

    id: str
    name: str
    state: State
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    ahead: int = Field(description="How many come before it")
    stages: list[Stage]
    run: int | None
    query: int | None
    verdict: str | None
    reason: str | None


@router.get("/jobs", responses=problems())
def jobs(request: Request, conn: Reader) -> list[JobAnswer]:
    """List the newest jobs since the service was started."""
    queue = _queue(request)
    return [_answer(conn, queue, job) for job in queue.jobs()[:LISTED]]


@router.get("/jobs/{job}", responses=problems(404))
def job(request: Request, conn: Reader, job: JobKey) -> JobAnswer:
    """Tell how far a job is."""
    queue = _queue(request)
    return _answer(conn, queue, _find(queue, job))


@router.post("/jobs", status_code=202, dependencies=[TOKEN], responses=problems(401, 403, 404, 408, 413, 415, 429))
def add_job(
    request: Request,
    conn: Reader,
    options: Options,
    file: Annotated[UploadFile, File(description="PNG, JPEG, TIFF, WebP or JPEG 2000")],
    level: Annotated[int | None, Form(ge=0, le=MAX_LEVEL, description="Zoom level of its resolution")] = None,
    gsd: Annotated[float | None, Form(gt=0, le=1e6, description="Size of a pixel in metres")] = None,
    gsd_factor: Annotated[float | None, Form(ge=1, le=MAX_GSD_FACTOR, description="How wrong that may be")] = None,
    pixels: Annotated[Pixels | None, Form(description="What a pixel is a step of")] = None,
    rotation: Annotated[Rotation, Form(description="free where the image's turn is not known")] = "north_up",
    gallery: Annotated[str | None, Form(description="Gallery to search; all by default")] = None,
    within: Annotated[
        str | None, Form(max_length=200_000, pattern=r"^\s*\{", description="Area to search in, as GeoJSON")
    ] = None,
) -> JobAnswer:
    """Find where an image was taken: takes the image and answers at once; ask for the job to see how far it is.

    Without level and gsd the scale is the file's own, or else unknown: then the gallery's own is begun with.
    """
    queue = _queue(request)
    if queue.is_full:
        raise HTTPException(429, "too many images are waiting: try again in a minute")
    if level is not None and gsd is not None:
        raise HTTPException(422, "level and gsd both give the scale: give one of them")
    chosen = None if gallery is None else get_gallery(conn, gallery).name
    try:
        path = keep(file.file, file.filename or "image", _folder())
    except UnknownFormatError as error:
        raise HTTPException(415, str(error)) from None
    make_room(_folder(), round(options.keep_uploads_mb * MEGABYTE), queue.files() | {path})
    wanted = {"level": level, "gsd": gsd, "gsd_factor": gsd_factor, "pixels": pixels, "rotation": rotation}
    added = Job(path.name, path, {**wanted, "gallery": chosen, "within": within, "model": options.model})
    try:
        queue.add(added)
    except QueueFullError:
        raise HTTPException(429, "too many images are waiting: try again in a minute") from None
    return _answer(conn, queue, added)


@router.delete("/jobs/{job}", dependencies=[TOKEN], responses=problems(401, 403, 404, 409))
def cancel_job(request: Request, conn: Reader, job: JobKey) -> JobAnswer:
    """Cancel a job that waits or runs; what it has not stored is forgotten."""
    queue = _queue(request)
    found = _find(queue, job)
    if not queue.cancel(found):
        raise HTTPException(409, f"the job is {found.state} already")
    return _answer(conn, queue, found)


def _folder() -> Path:
    return settings().home.expanduser() / "uploads"


def _queue(request: Request) -> JobQueue:
    queue: JobQueue = request.app.state.queue
    return queue


def _find(queue: JobQueue, key: str) -> Job:
    found = queue.get(key)
    if found is None:
        raise HTTPException(404, "there is no such job: jobs are forgotten when the service ends, their runs are not")
    return found


def _answer(conn: Connection, queue: JobQueue, job: Job) -> JobAnswer:
    query, verdict, reason = None, None, job.reason
    if job.run is not None:
        rows, _ = service.run_queries(
            conn, job.run, verdict=None, outcome=None, name=None, order="name", limit=1, offset=0
        )
        # the run may have been deleted since
        for row in rows:
            query, verdict, reason = row["id"], row["verdict"], row["reason"]
    return JobAnswer(
        id=job.id,
        name=job.name,
        state=job.state,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        ahead=queue.ahead_of(job),
        stages=[Stage(name=name, seconds=seconds) for name, seconds in list(job.stages)],
        run=job.run,
        query=query,
        verdict=verdict,
        reason=reason,
    )
