"""The process that localizes one uploaded image: apart from the service, so that it can be ended at any time.

It reads one JSON object from standard input and writes one JSON object a line to standard output: the stages as they
end, then the run's number, or what went wrong. It ends with the service, whose end closes its standard input.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from threading import Thread
from typing import Any, TextIO

from rsloc_db import api
from rsloc_db.errors import QueryError, RslocError
from rsloc_db.queries.images import open_raster
from rsloc_db.queries.scale import file_scale
from rsloc_db.types import Json, Silent


class Reporter(Silent):
    """A ``Progress`` that tells the service of every stage."""

    def __init__(self, out: TextIO) -> None:
        self.out = out

    def tell(self, **event: Any) -> None:
        """Write one event."""
        self.out.write(json.dumps(event) + "\n")
        self.out.flush()

    def stage(self, name: str) -> None:
        """Tell of a stage that has ended."""
        self.tell(stage=name)


def work(task: Json, reporter: Reporter) -> None:
    """Localize the image of a task and tell the run's number, or what went wrong.

    Args:
        task: path, url, max_pixels, and options of ``api.localize``.
        reporter: whom to tell.
    """
    path = Path(task["path"])
    options = {name: value for name, value in task["options"].items() if value is not None}
    try:
        with open_raster(path) as dataset:
            if dataset.width * dataset.height > task["max_pixels"]:
                raise QueryError(
                    f"the image has {dataset.width} x {dataset.height} pixels: "
                    f"at most {task['max_pixels']:,} are taken in all"
                )
            if "level" not in options and "gsd" not in options and file_scale(dataset) is None:
                # nobody says how large a pixel is: begin with the gallery's own
                options |= {"gsd": "unknown"}
                options.pop("pixels", None)
        reporter.stage("read")
        found = api.localize(path, url=task["url"], truth=False, progress=reporter, **options)
        reporter.tell(run=found.run)
    except RslocError as error:
        reporter.tell(error=str(error).replace(str(path), "the image"))


def main() -> None:
    """Do the task that comes on standard input."""
    task = json.loads(sys.stdin.readline())
    Thread(target=_end_with_service, daemon=True).start()
    work(task, Reporter(sys.stdout))


def _end_with_service() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
