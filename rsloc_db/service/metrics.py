"""Figures for those who run the service, as Prometheus reads them."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rsloc_db.service.job_queue import Job

BUCKETS_S = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
JOB_BUCKETS_S = (1, 2, 5, 10, 20, 60, 120, 300, 600)
CONTENT_TYPE = CONTENT_TYPE_LATEST
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
"""Others are counted together: any word may come as one."""


class Metrics:
    """Requests by route and status, and jobs by how they ended."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("rsloc_requests", "Requests", ["method", "route", "status"], registry=registry)
        self.seconds = Histogram(
            "rsloc_request_seconds", "Seconds to the end of an answer", ["route"], buckets=BUCKETS_S, registry=registry
        )
        self.jobs = Counter("rsloc_jobs", "Jobs that have ended", ["state"], registry=registry)
        self.job_seconds = Histogram(
            "rsloc_job_seconds", "Seconds from a job's start to its end", buckets=JOB_BUCKETS_S, registry=registry
        )
        self.waiting = Gauge("rsloc_jobs_waiting", "Jobs that wait", registry=registry)
        self.running = Gauge("rsloc_jobs_running", "Jobs that run", registry=registry)
        self.connections = Gauge("rsloc_reader_connections", "Readers' connections", ["state"], registry=registry)

    def job_ended(self, job: Job) -> None:
        """Count a job that is over."""
        self.jobs.labels(job.state).inc()
        if job.started_at and job.finished_at:
            self.job_seconds.observe((job.finished_at - job.started_at).total_seconds())

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(self.registry)


class Measure:
    """ASGI middleware that counts and times requests by the route's pattern, not by address."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and note how it went."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.metrics.requests.labels(method, route, status).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - start)
