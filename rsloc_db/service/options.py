"""What the service is started with."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from rsloc_db.models import DEFAULT

MEGABYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """Options of the service; every limit is there so that nobody can wear the machine out.

    Attributes:
        host: address to listen on.
        port: port to listen on.
        token: what those who write must send as ``Authorization: Bearer TOKEN``; None where nobody must.
        hosts: names under which the service may be asked for, beside ``host`` and the loopback's; "*" for any.
        model: whose embeddings are searched.
        max_upload_mb: largest image that is taken, megabytes.
        max_megapixels: most pixels of an image that is taken, millions.
        max_seconds: how long one image may take; then its job is ended.
        max_waiting: how many images may wait; then no more are taken.
        keep_uploads_mb: room for uploaded images; the oldest are removed when it is full.
        statement_seconds: how long the database may think about one request.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = None
    hosts: tuple[str, ...] = ()
    model: str = DEFAULT
    max_upload_mb: float = 64
    max_megapixels: float = 50
    max_seconds: float = 600
    max_waiting: int = 16
    keep_uploads_mb: float = 2000
    statement_seconds: float = 30

    @property
    def max_upload_bytes(self) -> int:
        """Largest image that is taken, bytes."""
        return round(self.max_upload_mb * MEGABYTE)

    @property
    def max_pixels(self) -> int:
        """Most pixels of an image that is taken or shown."""
        return round(self.max_megapixels * 1e6)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Tell whether an address is this machine's own, which no other machine can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
