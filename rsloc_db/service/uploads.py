"""Uploaded images: told by their first bytes, kept under names of our own, the oldest removed when room is short."""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path
from typing import BinaryIO

from rsloc_db.errors import RslocError

CHUNK = 1 << 20
KINDS = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpg",
    b"II*\x00": "tif",
    b"MM\x00*": "tif",
    b"II+\x00": "tif",
    b"MM\x00+": "tif",
    b"RIFF": "webp",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n": "jp2",
}
"""First bytes -> suffix. Formats of one file that hold their pixels themselves."""
NAMES = "PNG, JPEG, TIFF, WebP or JPEG 2000"


class UnknownFormatError(RslocError):
    """An upload is no image of a known format."""


def keep(source: BinaryIO, name: str, folder: Path) -> Path:
    """Write an upload into a folder, under a name made of its own, its content's hash and its format.

    Args:
        source: the upload.
        name: what it is called there; only letters, digits, dots, dashes and underscores of its stem are kept.
        folder: where to.

    Raises:
        UnknownFormatError: its first bytes are those of no format that is taken.
    """
    head = source.read(16)
    suffix = next((kind for magic, kind in KINDS.items() if head.startswith(magic)), None)
    if suffix is None:
        raise UnknownFormatError(f"the upload is no {NAMES} image")
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(head)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".part-", delete=False) as part:
        unfinished = Path(part.name)
        try:
            part.write(head)
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                part.write(chunk)
            path = folder / f"{_stem(name)}-{digest.hexdigest()[:10]}.{suffix}"
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    return path


def _stem(name: str) -> str:
    stem = re.split(r"[\\/]", name)[-1].rsplit(".", 1)[0]
    return re.sub(r"[^\w.-]+", "_", stem, flags=re.ASCII).strip("._")[:60] or "image"


def make_room(folder: Path, most_bytes: int, keep_these: set[Path]) -> None:
    """Remove the oldest uploads until all together are small enough; those that are still needed stay."""
    files = [(path, path.stat()) for path in folder.iterdir() if path.is_file()]
    total = sum(stat.st_size for _, stat in files)
    for path, stat in sorted(files, key=lambda each: each[1].st_mtime):
        if total <= most_bytes:
            return
        if path not in keep_these and not path.name.startswith("."):
            path.unlink(missing_ok=True)
            total -= stat.st_size
