"""Stage 1, retrieve: cut the query into patches, embed them, and find the tiles that resemble each.

A patch is square on the ground, as the gallery's windows are, so it fits them at one latitude. A Mercator query's patch
fits at all of them; where a pixel is ground metres or degrees the patch's size or aspect depends on the unknown
latitude, so patches are cut for bands of it. Patches lie so close that one of them is within a twelfth of a window (an
eighth of a tile) of each of the gallery's: misalignment costs more than season (docs/model_card.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from rsloc_db.db.connection import Connection
from rsloc_db.db.runs import Key, PatchRow, Target, copy_patches
from rsloc_db.db.search import search
from rsloc_db.frames import Frame, meters_per_degree
from rsloc_db.grids import TILE_PX, nominal_resolution_m
from rsloc_db.imagery import to_grey, window
from rsloc_db.models import Embedder
from rsloc_db.stages.options import Options
from rsloc_db.stages.poses import poses
from rsloc_db.stages.query import Query
from rsloc_db.types import Image, Mask, Scale

BAND_RATIO = 1.13
"""A band of latitudes spans at most this ratio of cos(latitude): half of it is the largest error of scale."""
ENOUGH_PATCHES = 12
"""Below this many patches they are cut closer together."""
SMALL_SHARE = 4
"""Where all places of the widest windows are taken, so many times the patches of narrower ones: the query is small."""
FREE_PATCHES = 900
"""Where poses are tried, they share so many patches of the widest windows, but for a dozen each."""
UPRIGHT_SHRINK = 1.5
"""Turned queries are laid north up at pixels larger by this: patches are averaged down farther anyway."""
MIN_HITS = 20
"""Fewest tiles a patch."""
SPARE = 5
"""Patches of so many times the embedder's pixels a side are cut out of the query shrunk to half its size."""
MIN_VALID = 0.7
"""Least share of a patch that must be imagery."""


def retrieve(
    conn: Connection,
    key: Key,
    query: Query,
    targets: Sequence[Target],
    embedder: Embedder,
    options: Options,
    readers: Sequence[Connection] = (),
) -> Iterator[bool]:
    """Store the patches of a query and their nearest tiles in every target.

    Args:
        conn: a connection in a transaction.
        key: the query and its run.
        query: its pixels.
        targets: embedding sets to search.
        embedder: the model of those sets.
        options: tiles a patch, most patches, and the polygon that the search is limited to.
        readers: connections that search in its stead, at once.

    Yields:
        After the widest windows and after each narrower width, whether it is the last one: those who have seen enough
        need not go on. Few patches of wide windows are left for the next width, and poses are searched all at once.
    """
    left, found = list(targets), list[PatchRow]()
    narrowest = min(t.window_tiles for t in targets)
    for patches, vectors in embedded(query, targets, embedder, options):
        copy_patches(conn, key, patches, vectors)
        found += patches
        width = patches[0].window_tiles
        if width > narrowest and len(found) >= ENOUGH_PATCHES and not options.free:
            done = [t for t in left if t.window_tiles >= width]
            left = [t for t in left if t.window_tiles < width]
            _search(conn, key, query, searches(done, found, options), options, readers)
            yield False
    _search(conn, key, query, searches(left, found, options), options, readers)
    yield True


def _search(
    conn: Connection,
    key: Key,
    query: Query,
    wanted: Iterable[tuple[Target, int]],
    options: Options,
    readers: Sequence[Connection],
) -> None:
    for target, hits in wanted:
        search(conn, key, target, query.frame.scale.pixels, limit=hits, within=options.within, readers=readers)


def embedded(
    query: Query, targets: Sequence[Target], embedder: Embedder, options: Options
) -> Iterator[tuple[list[PatchRow], NDArray[np.float32]]]:
    """Yield the patches of a query in each of its poses, widest windows first, with their vectors, (N, D) float32."""
    levels = sorted({t.level for t in targets})
    query = query.grey() if embedder.grey else query
    tried = poses(options)
    most = max(FREE_PATCHES // len(tried), ENOUGH_PATCHES) if options.free else options.patches
    for pose in tried:
        upright = query.posed(pose).upright(UPRIGHT_SHRINK)
        patches = [p for level in levels for p in _cut_level(upright, targets, level, most, widest=options.free)]
        for width in sorted({p.window_tiles for p in patches}, reverse=True):
            alike = [p for p in patches if p.window_tiles == width]
            vectors = embed_patches(upright, alike, embedder)
            yield [_in_query(p, query.frame.posed(pose), upright.frame) for p in alike], vectors


def searches(targets: Sequence[Target], patches: Sequence[PatchRow], options: Options) -> Iterator[tuple[Target, int]]:
    """Yield which embedding sets to search for the patches of a query, and for how many tiles a patch."""
    widest: dict[int, int] = {}
    for p in patches:
        widest[p.level] = max(p.window_tiles, widest.get(p.level, 1))
    # narrow windows are many, and only those in phase with the grid are right: these are found among the first
    asked = options.hits // 2 if options.free else options.hits
    for target in targets:
        reach = widest.get(target.level, 1)
        if patches and target.window_tiles <= reach:
            yield target, max(asked * target.window_tiles // reach, MIN_HITS)


def _in_query(patch: PatchRow, posed: Frame, upright: Frame) -> PatchRow:
    """Return a patch of an upright query as it lies in the query itself."""
    x, y = posed.from_offsets(np.array(patch.east_offset), np.array(patch.north_offset))
    ratio_x, ratio_y = upright.scale.x / posed.scale.x, upright.scale.y / posed.scale.y
    size = patch.width_px * ratio_x / posed.pose.zoom, patch.height_px * ratio_y / posed.pose.zoom
    pose = posed.pose
    return replace(
        patch, x_px=float(x), y_px=float(y), width_px=size[0], height_px=size[1], turn_deg=pose.turn_deg, zoom=pose.zoom
    )


def _cut_level(
    query: Query, targets: Sequence[Target], level: int, max_patches: int, *, widest: bool
) -> list[PatchRow]:
    """Cut the patches for one level: for every window width that was embedded, and every band of latitudes.

    There may be ``max_patches`` of the widest windows that fit, and the more of narrower ones; where ``widest`` is
    asked for, narrower ones are cut only if there are few.
    """
    here, scale = [t for t in targets if t.level == level], query.frame.scale
    bands = latitude_bands(scale, min(t.min_abs_lat_deg for t in here), max(t.max_abs_lat_deg for t in here))
    patches: list[PatchRow] = []
    first = 0
    for window_tiles in sorted({t.window_tiles for t in here}, reverse=True):
        if widest and len(patches) >= ENOUGH_PATCHES:
            break
        # one pose of many need not do alone
        enough = max(ENOUGH_PATCHES // len(bands), 2) if widest else ENOUGH_PATCHES
        most = max(max_patches * max(first, window_tiles) // window_tiles // len(bands), enough)
        places = [lay(query.frame, level, window_tiles, band) for band in bands]
        cuts = [p for of_band in places for p in some_of(of_band, most)]
        if cuts and not first:
            first = window_tiles
            if not widest and max(map(len, places)) <= most:
                max_patches *= SMALL_SHARE
        patches += useful(query.image, query.valid, cuts)
    return patches


def latitude_bands(scale: Scale, min_abs_lat_deg: float, max_abs_lat_deg: float) -> list[tuple[float, float]]:
    """Return the bands of absolute latitude, (low, high) in degrees, that need patches of their own."""
    if scale.pixels == "mercator":
        return [(0.0, 90.0)]
    top, bottom = (np.cos(np.radians(min(lat, 80.0))) for lat in (min_abs_lat_deg, max_abs_lat_deg))
    count = max(1, int(np.ceil(np.log(top / bottom) / np.log(BAND_RATIO))))
    edges = np.degrees(np.arccos(np.clip(np.geomspace(top, bottom, count + 1), 0, 1)))
    # neighbours overlap a little, so that rounding loses no tile; the last band reaches the pole
    last = 90.0 if max_abs_lat_deg > 80 else float(edges[-1]) + 0.1
    return [
        (max(float(a) - 0.1, 0.0), min(float(b) + 0.1, 90.0))
        for a, b in zip(edges[:-1], [*edges[1:-1], last], strict=True)
    ]


def patch_size(scale: Scale, level: int, window_tiles: int, band: tuple[float, float]) -> tuple[float, float]:
    """Return width and height in query pixels of a window ``window_tiles`` tiles wide and square on the ground."""
    tile_deg = 360.0 / 2**level
    if scale.pixels == "mercator":
        side = window_tiles * TILE_PX * nominal_resolution_m(level)
        return side / scale.x, side / scale.y
    cosines = np.cos(np.radians(np.minimum(band, 80.0)))
    lat = np.degrees(np.arccos(np.sqrt(cosines[0] * cosines[1])))
    east, north = (float(v) for v in meters_per_degree(lat))
    if scale.pixels == "ground":
        side = window_tiles * tile_deg * east
        return side / scale.x, side / scale.y
    return window_tiles * tile_deg / scale.x, window_tiles * tile_deg * east / north / scale.y


def lay(frame: Frame, level: int, window_tiles: int, band: tuple[float, float]) -> list[PatchRow]:
    """Lay patches over a query: a sixth of a window apart, but a quarter of a tile; a twelfth where these are few.

    A query a little smaller than a window still gives one patch, whose rim is filled up; a much smaller one gives none.
    """
    width, height = patch_size(frame.scale, level, window_tiles, band)
    if frame.width_px < 0.7 * width or frame.height_px < 0.7 * height:
        return []
    for step in (max(1 / 6, 1 / 4 / window_tiles), 1 / 12):
        x = _centers(frame.width_px, width, width * step)
        y = _centers(frame.height_px, height, height * step)
        if len(x) * len(y) >= ENOUGH_PATCHES:
            break
    places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    east, north = frame.offsets(places[:, 0], places[:, 1])
    return [
        PatchRow(level, window_tiles, float(a), float(b), width, height, float(e), float(n), *band)
        for (a, b), e, n in zip(places, east, north, strict=True)
    ]


def some_of(patches: Sequence[PatchRow], most: int) -> list[PatchRow]:
    """Return a random choice of patches, which keeps all phases against the tile grid; a rerun chooses the same."""
    if len(patches) <= most:
        return list(patches)
    return [patches[i] for i in np.sort(np.random.default_rng(0).choice(len(patches), most, replace=False))]


def _centers(size: int, patch: float, step: float) -> NDArray[np.float64]:
    steps = round((size - patch) / step)
    return np.linspace(patch / 2, size - patch / 2, steps + 1) if steps > 0 else np.array([size / 2])


def useful(image: Image, valid: Mask, patches: Sequence[PatchRow]) -> list[PatchRow]:
    """Return the patches that are imagery and not much plainer than the query's others (open sea, cloud)."""
    grey, seen = to_grey(image), valid.view(np.uint8)
    kept, contrast = [], []
    for p in patches:
        place = _slices(p, image.shape)
        part = grey[place]
        if cv2.countNonZero(seen[place]) >= MIN_VALID * part.size:
            kept.append(p)
            contrast.append(float(cv2.meanStdDev(part)[1][0, 0]))
    limit = 0.2 * float(np.median(contrast)) if contrast else 0.0
    return [p for p, c in zip(kept, contrast, strict=True) if c > limit]


def _slices(p: PatchRow, shape: tuple[int, ...]) -> tuple[slice, slice]:
    x0, y0 = max(int(p.x_px - p.width_px / 2), 0), max(int(p.y_px - p.height_px / 2), 0)
    return (
        slice(y0, min(int(np.ceil(p.y_px + p.height_px / 2)), shape[0])),
        slice(x0, min(int(np.ceil(p.x_px + p.width_px / 2)), shape[1])),
    )


def embed_patches(query: Query, patches: Iterable[PatchRow], embedder: Embedder) -> NDArray[np.float32]:
    """Return the vectors of patches, (N, D) float32."""
    size, width, height = embedder.input_px, query.frame.width_px, query.frame.height_px
    cuts = []
    for p in patches:
        # averaged down by half first where there are pixels to spare
        halved = min(p.width_px, p.height_px) >= SPARE * size
        image, valid = query.shrunk(width // 2, height // 2) if halved else (query.image, query.valid)
        x, y = image.shape[1] / width, image.shape[0] / height
        cuts.append(window(image, valid, p.x_px * x, p.y_px * y, p.width_px * x, p.height_px * y, size))
    return embedder.embed(np.stack(cuts))
