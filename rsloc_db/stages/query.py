"""A query as the method sees it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from rsloc_db.errors import QueryError
from rsloc_db.frames import Frame
from rsloc_db.imagery import to_grey
from rsloc_db.queries import QueryFile, load_image
from rsloc_db.types import AS_STATED, Image, Mask, Pose, Scale


@dataclass(frozen=True, slots=True)
class Query:
    """Pixels and their size, nothing else.

    Attributes:
        image: (H, W, 3) uint8 RGB; or (H, W), see ``grey``.
        valid: (H, W) bool, the pixels that are imagery.
        frame: size of the image and of its pixels, and the pose that it is supposed to have.
    """

    image: Image
    valid: Mask
    frame: Frame
    _shrunk: dict[tuple[int, int], tuple[Image, Mask]] = field(default_factory=dict, repr=False, compare=False)

    def grey(self) -> Query:
        """Return the query without its colours: edges are compared in grey, in a third of the time."""
        return replace(self, image=to_grey(self.image), _shrunk={})

    def posed(self, pose: Pose) -> Query:
        """Return the query in another supposed pose; pixels stay, and what was shrunk is shared."""
        return replace(self, frame=self.frame.posed(pose))

    def shrunk(self, width: int, height: int) -> tuple[Image, Mask]:
        """Return image and mask averaged down to a size, made once."""
        if (width, height) == (self.frame.width_px, self.frame.height_px):
            return self.image, self.valid
        if (width, height) not in self._shrunk:
            image = cv2.resize(self.image, (width, height), interpolation=cv2.INTER_AREA)
            valid = cv2.resize(self.valid.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
            self._shrunk[width, height] = np.asarray(image, np.uint8), valid
        return self._shrunk[width, height]

    def upright(self, shrink: float) -> Query:
        """Return the query as it would look north up, its pixels larger by a factor, its pose taken as true.

        Without a turn it is the query itself, but for the size of its pixels as the zoom has it.
        """
        scale, pose = self.frame.scale, self.frame.pose
        x, y = scale.x * pose.zoom, scale.y * pose.zoom
        if pose.turn_deg == 0.0:
            return replace(self, frame=replace(self.frame, scale=Scale(scale.pixels, x, y), pose=AS_STATED))
        corners = np.array([(0, 0), (1, 0), (0, 1), (1, 1)]) * (self.frame.width_px, self.frame.height_px)
        east, north = self.frame.offsets(corners[:, 0], corners[:, 1])
        width, height = (int(np.ceil(2 * abs(v).max() / s / shrink)) for v, s in ((east, x), (north, y)))
        frame = Frame(Scale(scale.pixels, x * shrink, y * shrink), width, height)
        size = [round(n / max(shrink, 1.0)) for n in (self.frame.width_px, self.frame.height_px)]
        image, valid = self.shrunk(*size)
        to_upright = _affine(self.frame, frame, np.array(size) / (self.frame.width_px, self.frame.height_px))
        turned = cv2.warpAffine(image, to_upright, (width, height), flags=cv2.INTER_LINEAR)
        inside = cv2.warpAffine(valid.astype(np.uint8), to_upright, (width, height), flags=cv2.INTER_NEAREST)
        return Query(np.asarray(turned, np.uint8), inside > 0, frame)


def read_query(file: QueryFile) -> Query:
    """Read a query's pixels.

    Raises:
        QueryError: its scale is not known.
        ImageError: it cannot be read.
    """
    if file.problem is not None or file.scale is None:
        raise QueryError(file.problem or "the size of its pixels is not known: give --level or --gsd")
    image, valid = load_image(file.path)
    return Query(image, valid, Frame(file.scale, image.shape[1], image.shape[0]))


def _affine(frame: Frame, upright: Frame, shrunk: np.ndarray) -> np.ndarray:
    """Return the (2, 3) transform from indices of a shrunk image to those of its upright one."""
    points = np.array([(0.0, 0.0), (frame.width_px, 0.0), (0.0, frame.height_px)])
    east, north = frame.offsets(points[:, 0], points[:, 1])
    there = np.column_stack(
        [east / upright.scale.x + upright.width_px / 2, upright.height_px / 2 - north / upright.scale.y]
    )
    # OpenCV counts from the middle of the first pixel
    return cv2.getAffineTransform((points * shrunk - 0.5).astype(np.float32), (there - 0.5).astype(np.float32))
