"""Queries: which there are, and their scale without their place."""

from __future__ import annotations

import ast
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from affine import Affine
from rasters import write

from rsloc_db.errors import QueryError
from rsloc_db.grids import nominal_resolution_m
from rsloc_db.queries import load_image, read_queries
from rsloc_db.types import Scale

ROOT = Path(__file__).resolve().parents[1]
LEVEL_15 = nominal_resolution_m(15)
HEADER = "imgname,lat,lon,level,width,height,resolution,type,lon_min,lat_min,lon_max,lat_max"
MERCATOR = {"crs": "EPSG:3857", "transform": Affine(4.777, 0, -276396, 0, -4.777, 6088475)}

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def rsloc_set(folder: Path, rows: list[str], header: str = HEADER, encoding: str = "utf-8", end: str = "\n") -> Path:
    """Write an RSLoc set's CSV beside its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder.parent / f"{folder.name}.csv"
    table.write_bytes(end.join([header, *rows, ""]).encode(encoding))
    return table


def row(name: str, lat: str = "47.5", lon: str = "2.5", level: str = "15") -> str:
    return f"{name},{lat},{lon},{level},96,80,4.777,mapbox,2.4,47.4,2.6,47.6"


# --- which queries there are


def test_a_set_is_the_same_by_folder_and_by_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = rsloc_set(tmp_path / "test.v1", [row("a1_L15_arcgis.tiff"), row("gone_L15_arcgis.tiff")])
    write(tmp_path / "test.v1" / "a1_L15_arcgis.tiff")
    write(tmp_path / "test.v1" / "extra.tiff", **MERCATOR)
    queries = read_queries([tmp_path / "test.v1"])
    assert [(q.name, q.problem) for q in queries] == [
        ("a1_L15_arcgis.tiff", None),
        ("extra.tiff", None),
        ("gone_L15_arcgis.tiff", "missing file"),
    ]
    assert {q.query_set for q in queries} == {"test.v1"}
    assert [q.scale for q in queries] == [
        Scale("mercator", LEVEL_15, LEVEL_15),
        Scale("mercator", 4.777, 4.777),
        None,
    ]
    assert read_queries([table]) == queries
    assert read_queries([tmp_path / "test.v1", table]) == queries
    monkeypatch.chdir(tmp_path / "test.v1")
    assert [(q.query_set, q.name, q.scale) for q in read_queries([Path()])] == [
        (q.query_set, q.name, q.scale) for q in queries
    ]


def test_a_single_file_belongs_to_its_folder(tmp_path: Path) -> None:
    rsloc_set(tmp_path / "set", [row("a.png"), row("b.png", level="16")])
    write(tmp_path / "set" / "a.png", driver="PNG")
    (query,) = read_queries([tmp_path / "set" / "a.png"])
    assert (query.query_set, query.name, query.scale) == ("set", "a.png", Scale("mercator", LEVEL_15, LEVEL_15))


def test_a_folder_passes_over_what_is_no_image(tmp_path: Path) -> None:
    write(tmp_path / "b.jpg", driver="JPEG")
    write(tmp_path / "a.png", driver="PNG")
    write(tmp_path / "landsat", driver="ENVI")
    for name in ("notes.txt", "b.jpg.aux.xml", "a.pgw", "table.csv", ".hidden", "README.md"):
        (tmp_path / name).write_text("x")
    (tmp_path / "folder.tif").mkdir()
    (tmp_path / "broken.tif").write_bytes(b"no image")
    (tmp_path / "empty.png").touch()
    queries = {q.name: q.problem for q in read_queries([tmp_path], level=15)}
    assert list(queries) == ["a.png", "b.jpg", "broken.tif", "empty.png", "landsat"]
    assert [name for name, problem in queries.items() if problem] == ["broken.tif", "empty.png"]
    assert "cannot read" in str(queries["broken.tif"])
    assert "empty" in str(queries["empty.png"])


def test_names_that_differ_in_case_are_two_queries(tmp_path: Path) -> None:
    rsloc_set(tmp_path / "set", [row("F1_L15_arcgis.tiff"), row("f1_L15_arcgis.tiff", level="16")])
    for name in ("F1_L15_arcgis.tiff", "f1_L15_arcgis.tiff"):
        write(tmp_path / "set" / name)
    scales = {q.name: q.scale for q in read_queries([tmp_path / "set"])}
    if len(list((tmp_path / "set").iterdir())) < 2:
        pytest.skip("this file system does not tell case apart")
    assert [s and round(s.x, 3) for s in scales.values()] == [4.777, 2.389]


def test_two_files_of_one_key_are_refused(tmp_path: Path) -> None:
    paths = [write(tmp_path / parent / "set" / "a.tif", **MERCATOR) for parent in ("one", "two")]
    with pytest.raises(QueryError, match=r"would both be query a\.tif of set set"):
        read_queries(paths)


@pytest.mark.parametrize("path", ["gone.tif", "/vsicurl/https://example.org/a.tif", "https://example.org/a.tif"])
def test_a_missing_path_is_refused(path: str) -> None:
    with pytest.raises(QueryError, match="no such file or folder"):
        read_queries([Path(path)])


def test_a_folder_without_images_and_a_csv_without_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(QueryError, match="no images in"):
        read_queries([tmp_path / "empty"])
    (tmp_path / "alone.csv").write_text(HEADER)
    with pytest.raises(QueryError, match="no such folder"):
        read_queries([tmp_path / "alone.csv"])


# --- the CSV


def test_csv_dialects(tmp_path: Path) -> None:
    header = '"imgname", level ,note'
    table = rsloc_set(tmp_path / "set", ['"a.tif",15,"a, b"', "", "b.tif,15.0,été"], header, "utf-8-sig", "\r\n")
    for name in ("a.tif", "b.tif"):
        write(tmp_path / "set" / name)
    assert [q.scale for q in read_queries([table])] == [Scale("mercator", LEVEL_15, LEVEL_15)] * 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name,lat\na.tif,1\n", "lacks the columns imgname, level: expected imgname, level, found name, lat"),
        (b"imgname,lat\na.tif,1\n", "lacks the column level"),
        (b"", "found nothing"),
        (b"imgname,level\na.tif,high\n", "line 2: level is 'high': expected a whole number"),
        (b"imgname,level\na.tif,15.5\n", "expected a whole number"),
        (b"imgname,level\na.tif,23\n", "level is 23: expected 0 to 22"),
        (b"imgname,level\na.tif,inf\n", "expected a whole number"),
        (b"imgname,level\na.tif,15\na.tif,15\n", "line 3: a.tif stands twice"),
        (b"imgname,level\n../a.tif,15\n", "line 2: imgname is '../a.tif'"),
        (b"imgname,level\n,15\n", "line 2: imgname is ''"),
        (b"imgname,level\n\xff\xfe.tif,15\n", "as a CSV in UTF-8"),
    ],
)
def test_a_wrong_csv_says_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    write(tmp_path / "set" / "a.tif")
    (tmp_path / "set.csv").write_bytes(content)
    with pytest.raises(QueryError, match=message):
        read_queries([tmp_path / "set"])


def test_a_csv_that_says_what_a_pixel_is_states_the_scale(tmp_path: Path) -> None:
    header = "imgname,level,resolution,pixels"
    rows = ["a.tif,,0.05,degrees", "b.tif,,10,ground", "c.tif,5,99,degrees", "d.tif,,,degrees", "e.tif,,10,"]
    for name in "abcde":
        write(tmp_path / "set" / f"{name}.tif", crs="EPSG:32631", transform=Affine(7, 0, 5e5, 0, -7, 5e6))
    (tmp_path / "set.csv").write_text("\n".join([header, *rows]))
    scales = [query.scale for query in read_queries([tmp_path / "set"])]
    file = Scale("ground", 7, 7)
    level_5 = Scale("degrees", 360 / 8192, 360 / 8192)
    assert scales == [Scale("degrees", 0.05, 0.05), Scale("ground", 10, 10), level_5, file, file]
    assert {query.scale for query in read_queries([tmp_path / "set"], gsd_m=3)} == {Scale("ground", 3, 3)}
    problems = [query.problem for query in read_queries([tmp_path / "set"], pixels="ground")]
    assert problems[:2] == ["its pixels are degrees by its set's CSV, not ground: leave out --pixels", None]
    (tmp_path / "set.csv").write_text("imgname,resolution,pixels\na.tif,0.05,degrees\nb.tif,,")
    assert [query.scale for query in read_queries([tmp_path / "set"])][:2] == [Scale("degrees", 0.05, 0.05), file]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.tif,,10,yards", "line 2: pixels is 'yards', expected mercator, ground, degrees or nothing"),
        ("a.tif,,wide,ground", "line 2: resolution is 'wide', expected a number above 0"),
        ("a.tif,,-1,ground", "line 2: resolution is '-1'"),
        ("a.tif,,nan,ground", "line 2: resolution is 'nan'"),
    ],
)
def test_a_wrong_scale_in_a_csv_is_refused(tmp_path: Path, row: str, message: str) -> None:
    write(tmp_path / "set" / "a.tif")
    (tmp_path / "set.csv").write_text(f"imgname,level,resolution,pixels\n{row}")
    with pytest.raises(QueryError, match=message):
        read_queries([tmp_path / "set"])


def test_an_empty_level_leaves_the_scale_to_the_file(tmp_path: Path) -> None:
    rsloc_set(tmp_path / "set", [row("a.tif", level="")])
    write(tmp_path / "set" / "a.tif", **MERCATOR)
    assert read_queries([tmp_path / "set"])[0].scale == Scale("mercator", 4.777, 4.777)


# --- the scale


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"gsd_m": 3.3}, Scale("ground", 3.3, 3.3)),
        ({"gsd_m": 4.8, "pixels": "mercator"}, Scale("mercator", 4.8, 4.8)),
        ({"level": 16}, Scale("mercator", LEVEL_15 / 2, LEVEL_15 / 2)),
        ({"level": 15, "pixels": "ground"}, Scale("ground", LEVEL_15, LEVEL_15)),
        ({"level": 5, "pixels": "degrees"}, Scale("degrees", 360 / 8192, 360 / 8192)),
        ({"pixels": "ground"}, Scale("ground", LEVEL_15, LEVEL_15)),
        ({}, Scale("mercator", LEVEL_15, LEVEL_15)),
    ],
)
def test_options_go_before_the_csv_and_the_csv_before_the_file(
    tmp_path: Path, options: dict[str, Any], expected: Scale
) -> None:
    rsloc_set(tmp_path / "set", [row("a.tif")])
    write(tmp_path / "set" / "a.tif", crs="EPSG:32631", transform=Affine(7, 0, 5e5, 0, -7, 5e6))
    assert read_queries([tmp_path / "set"], **options)[0].scale == expected


@pytest.mark.parametrize(
    "options",
    [
        {"gsd_m": 3.0, "level": 15},
        {"gsd_m": 3.0, "pixels": "degrees"},
        {"gsd_m": 0.0},
        {"gsd_m": -1.0},
        {"gsd_m": math.nan},
        {"gsd_m": math.inf},
        {"level": -1},
        {"level": 23},
        {"pixels": "feet"},
    ],
)
def test_contradictory_options_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(QueryError, match="--"):
        read_queries([write(tmp_path / "a.tif", **MERCATOR)], **options)


@pytest.mark.parametrize(
    ("crs", "side", "expected"),
    [
        ("EPSG:3857", 4.777, Scale("mercator", 4.777, 4.777)),
        ("EPSG:3395", 4.777, Scale("mercator", 4.777, 4.777)),
        ("ESRI:102100", 4.777, Scale("mercator", 4.777, 4.777)),
        ("EPSG:4326", 0.0001, Scale("degrees", 0.0001, 0.0001)),
        ("EPSG:32662", 111319.49079, Scale("degrees", 1.0, 1.0)),
        ("EPSG:32631", 10, Scale("ground", 10.0, 10.0)),
        ("EPSG:2154", 0.2, Scale("ground", 0.2, 0.2)),
        ("EPSG:2227", 10, Scale("ground", 3.048006, 3.048006)),
    ],
)
def test_the_crs_tells_what_a_pixel_is(tmp_path: Path, crs: str, side: float, expected: Scale) -> None:
    path = write(tmp_path / "a.tif", crs=crs, transform=Affine(side, 0, 0, 0, -side, 0))
    assert read_queries([path])[0].scale == expected


def test_pixels_of_a_geographic_file_need_not_be_square(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", crs="EPSG:4326", transform=Affine(0.002, 0, 5, 0, -0.001, 48))
    assert read_queries([path])[0].scale == Scale("degrees", 0.002, 0.001)


@pytest.mark.parametrize("pixels", [None, "ground"])
def test_a_query_says_nothing_of_its_place(tmp_path: Path, pixels: Any) -> None:
    """Equal pixels at other origins, latitudes, zones and turns: equal queries, equal images."""
    places = [
        ("EPSG:32631", Affine(10, 0, 5e5, 0, -10, 5e6)),
        ("EPSG:32631", Affine(10, 0, 612345.678, 0, -10, 123456.789)),
        ("EPSG:32756", Affine(10, 0, 3e5, 0, -10, 7e6)),
        ("EPSG:32610", Affine.translation(4e5, 6e6) @ Affine.rotation(33.3) @ Affine.scale(10, -10)),
        ("EPSG:2154", Affine.translation(7e5, 6e6) @ Affine.rotation(-171) @ Affine.scale(10, -10)),
    ]
    seen = []
    for crs, transform in places:
        path = write(tmp_path / "set" / "a.tif", crs=crs, transform=transform)
        image, valid = load_image(path)
        seen.append((read_queries([path], pixels=pixels), image.tobytes(), valid.tobytes()))
    assert seen[0][0][0].scale == Scale("ground", 10.0, 10.0)
    assert all(other == seen[0] for other in seen[1:])


def test_without_a_scale_the_query_says_what_to_give(tmp_path: Path) -> None:
    write(tmp_path / "no_crs.tif", transform=Affine(5, 0, 0, 0, -5, 0))
    write(tmp_path / "no_transform.tif", crs="EPSG:3857")
    write(tmp_path / "plain.jpg", driver="JPEG")
    for query in read_queries([tmp_path]):
        assert query.scale is None
        assert "give --level or --gsd" in str(query.problem)


def test_pixels_that_contradict_the_crs_are_a_problem(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", **MERCATOR)
    (query,) = read_queries([path], pixels="degrees")
    assert query.scale is None
    assert "mercator by its CRS, not degrees" in str(query.problem)


# --- shared imagery


@pytest.mark.parametrize(("name", "count"), [("google", 3), ("naip", 9), ("season", 7), ("absent", 10)])
def test_mini_sets(shared_data: Path, name: str, count: int) -> None:
    queries = read_queries([shared_data / "mini" / "RSimages" / name])
    assert len(queries) == count
    for query in queries:
        assert query.problem is None
        assert query.scale == Scale("mercator", LEVEL_15, LEVEL_15)
    image, valid = load_image(queries[0].path)
    assert min(image.shape[:2]) >= 256
    assert valid.all()


@pytest.mark.parametrize(("name", "rows", "files"), [("test100", 100, 3), ("test400", 400, 6)])
def test_rsloc_sets(shared_data: Path, name: str, rows: int, files: int) -> None:
    queries = read_queries([shared_data / "rsloc" / "RSimages" / f"{name}.csv"])
    assert len(queries) == rows
    assert sum(query.problem is None for query in queries) == files
    assert {query.problem for query in queries} == {None, "missing file"}


def test_real_files_of_other_makes(shared_data: Path) -> None:
    pairs = shared_data / "pairs"
    expected = {"nanjing": (2, 30.0), "s2_austria": (1, 10.0), "s2_california/crop20210708": (3, 10.0)}
    for folder, (count, size) in expected.items():
        queries = read_queries([pairs / folder])
        assert [query.scale for query in queries] == [Scale("ground", size, size)] * count
        for query in queries:
            image, valid = load_image(query.path)
            assert valid.all()
            assert image.std() > 10


# --- who may know the truth


def test_the_localizer_does_not_import_the_truth() -> None:
    """Of the package, only the truth's loader and the commands may import ``queries.truth``."""
    offenders = []
    for path in sorted((ROOT / "rsloc_db").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in getattr(node, "names", [])] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            if any(name.startswith("rsloc_db.queries.truth") for name in names):
                offenders.append(path.relative_to(ROOT / "rsloc_db").as_posix())
    assert set(offenders) <= {"stages/truth.py", "cli/truth.py", "evaluation.py"}


def test_localizing_does_not_load_the_truth() -> None:
    code = "import sys, rsloc_db.queries; assert 'rsloc_db.queries.truth' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
