"""What is known of all galleries, remembered: to count the tiles of a large one takes longer than anybody waits."""

from __future__ import annotations

import time
from threading import Lock

from rsloc_db.db.connection import Connection
from rsloc_db.db.galleries import GalleryOverview
from rsloc_db.db.service import gallery_fingerprint, patient_overview

FRESH_S = 30.0
"""While a gallery grows it is counted again no sooner than after so long."""


class Overviews:
    """The overview of all galleries; it is made anew when something has changed, by one request at a time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._found: list[GalleryOverview] = []
        self._of: tuple[str, tuple[object, ...]] | None = None
        self._made_at = 0.0

    def get(self, conn: Connection) -> list[GalleryOverview]:
        """Return what is known of all galleries, by name.

        Args:
            conn: a reader's connection in a transaction.
        """
        if not self._lock.acquire(blocking=self._of is None):
            return self._found  # another request is at it: what is known from before will do
        try:
            now = gallery_fingerprint(conn)
            grown = self._of is not None and now[0] == self._of[0] and now != self._of
            if now != self._of and not (grown and time.monotonic() < self._made_at + FRESH_S):
                self._found, self._of = patient_overview(conn), now
                self._made_at = time.monotonic()
            return self._found
        finally:
            self._lock.release()
