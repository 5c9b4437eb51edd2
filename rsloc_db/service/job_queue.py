"""Images that wait for their turn: one at a time, each in a process of its own, bounded in number and in time.

Jobs live in this process's memory: they end with it. What a job has found is a run in the database, which stays.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Condition, Thread, Timer
from typing import Literal

import psycopg

from rsloc_db.db.connection import connect
from rsloc_db.db.service import forget_pending
from rsloc_db.errors import RslocError
from rsloc_db.types import Json

log = logging.getLogger(__name__)

State = Literal["waiting", "running", "done", "failed", "cancelled"]
REMEMBERED = 200
"""Jobs that are still told of after their end."""


@dataclass
class Job:
    """An uploaded image on its way.

    Attributes:
        name: what the image was called.
        path: where it is kept.
        options: as for ``api.localize``.
        id: its key, which cannot be guessed.
        state: where it stands.
        stages: (name, seconds) of those that have ended, in their order.
        run: number of the run, once there is one.
        reason: why it failed or was cancelled.
    """

    name: str
    path: Path
    options: Json
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    state: State = "waiting"
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_at: datetime | None = None
    finished_at: datetime | None = None
    stages: list[tuple[str, float]] = field(default_factory=list)
    run: int | None = None
    reason: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ("done", "failed", "cancelled")


class QueueFullError(Exception):
    """So many are waiting that no more are taken."""


class JobQueue:
    """Does one job after the other in a thread that watches over the process of each.

    Args:
        url: the database, with the right to write.
        max_pixels: most pixels of an image.
        max_seconds: how long one may take.
        max_waiting: how many may wait.
        ended: called with each job that is over.
    """

    def __init__(
        self,
        url: str,
        *,
        max_pixels: int,
        max_seconds: float,
        max_waiting: int,
        ended: Callable[[Job], None],
    ) -> None:
        self._url, self._max_pixels, self._max_seconds, self._max_waiting = url, max_pixels, max_seconds, max_waiting
        self._ended = ended
        self._jobs: dict[str, Job] = {}
        self._changed = Condition()
        self._process: subprocess.Popen[str] | None = None
        self._closed = False
        self._thread = Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def add(self, job: Job) -> None:
        """Put a job at the end of the queue.

        Raises:
            QueueFullError: too many are waiting.
        """
        with self._changed:
            if len(self._in("waiting")) >= self._max_waiting:
                raise QueueFullError
            self._jobs[job.id] = job
            over = [each for each in self._jobs.values() if each.is_over]
            for old in over[: max(len(self._jobs) - REMEMBERED, 0)]:
                del self._jobs[old.id]
            self._changed.notify_all()

    @property
    def is_full(self) -> bool:
        """Whether no more jobs are taken now."""
        with self._changed:
            return len(self._in("waiting")) >= self._max_waiting

    def jobs(self) -> list[Job]:
        """Return all jobs that are remembered, the newest first."""
        with self._changed:
            return list(reversed(self._jobs.values()))

    def get(self, key: str) -> Job | None:
        """Return a job, or None where it is not known (any more)."""
        with self._changed:
            return self._jobs.get(key)

    def ahead_of(self, job: Job) -> int:
        """Return how many jobs come before a waiting one."""
        with self._changed:
            waiting = self._in("waiting")
            return waiting.index(job) + len(self._in("running")) if job in waiting else 0

    def cancel(self, job: Job) -> bool:
        """End a job that waits or runs, and tell whether it did; one that is over stays as it is."""
        with self._changed:
            if job.is_over:
                return False
            running = job.state == "running"
            self._end(job, "cancelled", "cancelled on request")
            if running:
                self._kill()
            return True

    def count(self, state: State) -> int:
        """Return how many jobs are in a state."""
        with self._changed:
            return len(self._in(state))

    def files(self) -> set[Path]:
        """Return the images of jobs that are not over."""
        with self._changed:
            return {job.path for job in self._jobs.values() if not job.is_over}

    def close(self) -> None:
        """Cancel all jobs and wait for the thread's end."""
        with self._changed:
            self._closed = True
            for job in [*self._in("waiting"), *self._in("running")]:
                self._end(job, "cancelled", "the service was stopped")
            self._kill()
            self._changed.notify_all()
        self._thread.join()

    def _in(self, state: State) -> list[Job]:
        return [job for job in self._jobs.values() if job.state == state]

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _end(self, job: Job, state: State, reason: str | None) -> None:
        """Note a job's end, once; called with the lock held."""
        if not job.is_over:
            job.state, job.reason, job.finished_at = state, reason, datetime.now(UTC)
            self._ended(job)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._in("waiting"))
                if self._closed:
                    return
                job = self._in("waiting")[0]
                job.state, job.started_at = "running", datetime.now(UTC)
                try:
                    self._process = process = _start()
                except OSError as error:
                    log.exception("job %s", job.id)
                    self._end(job, "failed", f"no process could be started ({error.strerror}): try again later")
                    continue
            try:
                self._watch(job, process)
            except Exception:
                log.exception("job %s", job.id)
            finally:
                process.kill()
                process.wait()
                with self._changed:
                    self._process = None
                    self._end(job, "failed", "its process ended without an answer")
                if job.run is None:
                    self._forget(job)

    def _forget(self, job: Job) -> None:
        """Forget the run that a process had begun and not finished; at worst it stays, and says that it is pending."""
        try:
            with connect(self._url) as conn:
                forget_pending(conn, str(job.path))
        except (psycopg.Error, RslocError) as error:
            log.warning("the unfinished run of job %s stays: %s", job.id, error)

    def _watch(self, job: Job, process: subprocess.Popen[str]) -> None:
        """Give a process its task and note what it tells, until it ends or its time is over."""
        task = {"path": str(job.path), "url": self._url, "max_pixels": self._max_pixels, "options": job.options}
        clock = Timer(self._max_seconds, self._time_is_over, (job,))
        clock.start()
        try:
            assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
            self._note(job, process.stdout)
        finally:
            clock.cancel()

    def _note(self, job: Job, lines: Iterable[str]) -> None:
        last = time.monotonic()
        for line in lines:
            event = json.loads(line)
            now = time.monotonic()
            with self._changed:
                if "stage" in event:
                    job.stages.append((event["stage"], now - last))
                    last = now
                elif "run" in event:
                    job.run = event["run"]
                    self._end(job, "done", None)
                else:
                    self._end(job, "failed", event["error"])

    def _time_is_over(self, job: Job) -> None:
        with self._changed:
            if job.state == "running":
                self._end(job, "failed", f"it took longer than {self._max_seconds:,.0f} seconds")
                self._kill()


def _start() -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rsloc_db.service.worker"]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8"
    )
