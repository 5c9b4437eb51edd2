"""Localize a batch of queries, several at once, one transaction a query; rerun = resume.

Of a query's time about seven parts in ten are Python and three the server's, and Python's part is many short calls
that hold the interpreter's lock; so queries are spread over processes. Each has a connection of its own, and while the
server searches for one query the next is decoded, embedded or verified. Answers do not depend on how many there are.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from threading import local

import psycopg
from threadpoolctl import threadpool_limits

from rsloc_db.db import runs
from rsloc_db.db.connection import Connection, address, connect, require_schema
from rsloc_db.db.galleries import watch_session
from rsloc_db.db.runs import Key
from rsloc_db.errors import RslocError, ServerError
from rsloc_db.models import Embedder
from rsloc_db.queries import QueryFile, content_hash
from rsloc_db.stages.localize import Desk, SearchSpace, localize_claimed, search_space
from rsloc_db.stages.options import Options
from rsloc_db.stages.workers import as_done, code_version, crew, threads, worker_model
from rsloc_db.types import Progress, Silent

ARRIVAL_S = 10.0
"""How long a replica may take to get what a gallery was given just now."""


@dataclass(frozen=True, slots=True)
class Labour:
    """Who localizes, and where.

    Attributes:
        url: the database.
        read_url: a replica of it, which the gallery is read from; None where there is none.
        workers: processes; one works in the caller's own.
        scheduler: a Dask scheduler, ``tcp://...`` or ``local:N``, in their stead; None for none.
    """

    url: str
    read_url: str | None = None
    workers: int = 1
    scheduler: str | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A query of a run: its key in table query and its file."""

    query_id: int
    file: QueryFile
    content_hash: str


@dataclass(frozen=True, slots=True)
class Work:
    """What all queries of a run share."""

    url: str
    read_url: str | None
    run_id: int
    model: str
    weights_hash: str
    options: Options


@dataclass(frozen=True, slots=True)
class QueryJob:
    """A query to localize, unless another process has done it; ``wait`` for one that holds it."""

    work: Work
    member: Member
    wait: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether a query was to be had, and what went wrong with it."""

    member: Member
    claimed: bool
    problem: str | None


Localizer = Callable[[Iterable[QueryJob]], Iterator[Outcome]]


def run_batch(
    conn: Connection,
    labour: Labour,
    files: Sequence[QueryFile],
    embedder: Embedder,
    model: str,
    options: Options,
    *,
    overwrite: bool,
    progress: Progress,
) -> int:
    """Localize queries that are not done yet in the run of these settings, and return the run's key.

    Args:
        conn: a connection, not in autocommit; each query is committed.
        labour: who localizes; it must be of the same database.
        files: the queries.
        embedder: the model whose embeddings are searched.
        model: what processes load it by.
        options: what decides the result.
        overwrite: begin a new run even where one of equal settings exists.
        progress: told of every query.

    Raises:
        GalleryError: there is no gallery to search.
        ServerError: the database went away; what was done stays, and a rerun goes on. Or the replica lags behind.
        WorkerError: a process died, or the scheduler cannot be reached.
    """
    with _still_there(), _reading(labour.read_url) as reader:
        space = search_space(conn, embedder, options)
        if reader is not None:
            _await_arrival(conn, reader, space, embedder, options)
        members = _register(conn, files)
        run_id = _open_run(conn, members, space, embedder, options, overwrite=overwrite)
        conn.commit()
        todo = runs.pending_queries(conn, run_id)
        conn.commit()
        progress.task("localize", total=len(members), done=len(members) - len(todo))
        waiting = [m for m in members if m.query_id in todo]
        hashed = embedder.weights_hash
        work = Work(labour.url, labour.read_url, run_id, model, hashed, options)
        space = space if reader is None else search_space(reader, embedder, options)
        own = Desk(conn, () if reader is None else (reader,), space, embedder, options, progress)
        with _localizer(labour, own, len(waiting)) as localize:
            _work_off(localize, work, waiting, progress)
        runs.finish_run(conn, run_id)
        conn.commit()
    return run_id


def _work_off(localize: Localizer, work: Work, waiting: list[Member], progress: Progress) -> None:
    """Localize queries: first what nobody holds, then what other processes held, unless they have done it."""
    for wait in (False, True):
        jobs, waiting = [QueryJob(work, member, wait) for member in waiting], []
        for outcome in localize(jobs):
            if outcome.problem is not None:
                progress.note(f"{outcome.member.file.name}: failed: {outcome.problem}")
            if outcome.claimed or wait:
                progress.advance()
            else:
                waiting.append(outcome.member)


@contextmanager
def _localizer(labour: Labour, own: Desk, count: int) -> Iterator[Localizer]:
    """Yield what localizes: this process at its own desk, or as many others as there is work for."""
    workers = min(labour.workers, count)
    if not count or (labour.scheduler is None and workers == 1):
        # the last bits of a product of matrices depend on how many threads share it
        with threadpool_limits(1, user_api="blas"), _with_readers(own, labour, count) as desk:
            yield partial(map, partial(_localize_one, desk))
    else:
        with crew(workers, labour.scheduler) as hands:
            yield partial(as_done, hands, localize_job)


@contextmanager
def _with_readers(desk: Desk, labour: Labour, count: int) -> Iterator[Desk]:
    """Yield a desk at which as many connections search at once as the process has threads, if there is work for it."""
    wanted = threads() if count else 0
    with ExitStack() as stack:
        readers = list(desk.readers)
        while 1 < wanted > len(readers):
            readers.append(stack.enter_context(closing(connect(labour.read_url or labour.url, autocommit=True))))
            watch_session(readers[-1])
        yield replace(desk, readers=tuple(readers))


def _localize_one(desk: Desk, job: QueryJob) -> Outcome:
    key = Key(job.work.run_id, job.member.query_id)
    claimed = runs.claim_query(desk.conn, key, wait=job.wait)
    problem = localize_claimed(desk, key, job.member.file) if claimed else None
    desk.conn.commit()
    return Outcome(job.member, claimed, problem)


def localize_job(job: QueryJob) -> Outcome:
    """Localize a query in a worker process; done again, it changes nothing.

    Raises:
        ServerError: the database went away.
    """
    try:
        with _still_there():
            return _localize_one(_desk(job.work), job)
    except BaseException:
        _leave_desk()
        raise


_here = local()
"""The desk of a worker's thread: what it keeps between the queries of a run."""


def _desk(work: Work) -> Desk:
    if getattr(_here, "work", None) != work:
        _leave_desk()
        conn = connect(work.url)
        readers = (connect(work.read_url, autocommit=True),) if work.read_url else ()
        watch_session(conn)
        model = worker_model(work.model, work.weights_hash)
        space = search_space(*readers or (conn,), model, work.options)
        conn.commit()
        _here.work, _here.desk = work, Desk(conn, readers, space, model, work.options, Silent())
    desk: Desk = _here.desk
    return desk


def _leave_desk() -> None:
    if getattr(_here, "work", None) is not None:
        _here.work, desk = None, _here.desk
        for conn in (desk.conn, *desk.readers):
            conn.close()


@contextmanager
def _still_there() -> Iterator[None]:
    """Say what to do where the database goes away or is full."""
    try:
        yield
    except psycopg.OperationalError as error:
        full = (error.sqlstate or "").startswith("53")
        trouble, help_ = ("has no room left", "make some") if full else ("went away", "start it")
        raise ServerError(
            f"the database {trouble} ({str(error).strip().splitlines()[0]}): {help_} and run the same command again, "
            "it goes on where it stopped"
        ) from error


@contextmanager
def _reading(url: str | None) -> Iterator[Connection | None]:
    """Yield a connection to a replica, or None where there is none."""
    with closing(connect(url, autocommit=True)) if url else nullcontext() as reader:
        if reader is not None:
            require_schema(reader)
        yield reader


def _await_arrival(
    conn: Connection, reader: Connection, space: SearchSpace, embedder: Embedder, options: Options
) -> None:
    """Wait a little until a replica has the galleries as the primary has them.

    An embedding set is marked as complete after all of its rows, and a replica replays in that order: where it has the
    mark and as many tiles, it has all.

    Raises:
        ServerError: it does not get them.
    """
    ids = sorted({t.gallery_id for t in space.targets})
    wanted = space.targets, runs.count_tiles(conn, ids)
    model, deadline = (embedder.name, embedder.weights_hash), time.monotonic() + ARRIVAL_S
    while (runs.search_targets(reader, *model, options.galleries), runs.count_tiles(reader, ids)) != wanted:
        if time.monotonic() > deadline:
            lag = runs.replica_lag_s(reader)
            behind = "it is no replica of it" if lag is None else f"what it has last replayed is {lag:,.0f} s old"
            raise ServerError(
                f"the replica at {address(reader)} does not have the galleries as the primary has them ({behind}): "
                "wait until it has caught up, or unset RSLOC_DATABASE_READ_URL"
            )
        time.sleep(0.2)


def _register(conn: Connection, files: Sequence[QueryFile]) -> list[Member]:
    """Store the queries in the order of their names, so that two processes at the same ones never block each other."""
    members = []
    for file in sorted(files, key=lambda f: (f.query_set, f.name)):
        content = _hash(file)
        key = runs.upsert_query(conn, file.query_set, file.name, str(file.path.absolute()), content)
        members.append(Member(key, file, content))
    return members


def _hash(file: QueryFile) -> str:
    try:
        return content_hash(file.path)
    except RslocError:
        return ""  # a missing file is a query that fails, with its reason


def _open_run(
    conn: Connection,
    members: Sequence[Member],
    space: SearchSpace,
    embedder: Embedder,
    options: Options,
    *,
    overwrite: bool,
) -> int:
    """Return the run of these queries and settings: the one that exists, or a new one."""
    settings = {
        **options.as_json(),
        "weights_hash": embedder.weights_hash,
        "embedding_sets": [t.set_id for t in space.targets],
        "tiles": runs.count_tiles(conn, sorted({t.gallery_id for t in space.targets})),
    }
    queries = [
        (m.file.query_set, m.file.name, m.content_hash, asdict(m.file.scale) if m.file.scale else None) for m in members
    ]
    code = code_version()
    identity = json.dumps([settings, queries, code], sort_keys=True)
    settings_hash = hashlib.sha256(identity.encode()).hexdigest()
    known = None if overwrite else runs.find_run(conn, settings_hash)
    if known is not None:
        return known
    query_set = ", ".join(sorted({m.file.query_set for m in members}))
    return runs.begin_run(conn, query_set, settings, settings_hash, code, [m.query_id for m in members])
