"""`rsloc-db match` and `rsloc_db.match`: files in, transform and verdict out; no database is needed."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from typer.testing import CliRunner, Result

import rsloc_db
from rsloc_db.cli import app, main
from rsloc_db.errors import ImageError, MatchError
from rsloc_db.registration import SCALES, TURNS_DEG
from rsloc_db.synthetic import land
from rsloc_db.types import Floats, Image

SIDE_PX = 400


@pytest.fixture(autouse=True)
def no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSLOC_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pairs")


def save(path: Path, image: Image) -> Path:
    assert cv2.imwrite(str(path), image[..., ::-1])
    return path


@pytest.fixture(scope="module")
def summer(folder: Path) -> Path:
    return save(folder / "summer.jpg", land(SIDE_PX, 5, 0))


@pytest.fixture(scope="module")
def true() -> Floats:
    """Affine from the winter image to the summer one."""
    back = cv2.getRotationMatrix2D((SIDE_PX / 2, SIDE_PX / 2), 40, 0.9)
    return np.asarray(cv2.invertAffineTransform(back))


@pytest.fixture(scope="module")
def winter(folder: Path, true: Floats) -> Path:
    """The same land in another season, turned and scaled, with black corners and without a mask."""
    image = cv2.warpAffine(land(SIDE_PX, 5, 3), cv2.invertAffineTransform(true), (SIDE_PX, SIDE_PX))
    return save(folder / "winter.jpg", np.asarray(image, np.uint8))


@pytest.fixture(scope="module")
def elsewhere(folder: Path) -> Path:
    return save(folder / "elsewhere.png", land(SIDE_PX, 8, 0))


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["match", *map(str, words)])


def test_json_tells_the_transform(winter: Path, summer: Path, true: Floats) -> None:
    done = run(winter, summer, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["a"], found["b"], found["verdict"]) == ("winter.jpg", "summer.jpg", "matched")
    np.testing.assert_allclose(np.array(found["matrix"])[:, :2], true[:, :2], atol=0.01)
    centre = np.array([(SIDE_PX - 1) / 2, (SIDE_PX - 1) / 2, 1])
    np.testing.assert_allclose(found["center"], true @ centre, atol=1.5)
    np.testing.assert_allclose(found["center"], np.array(found["matrix"]) @ centre)
    assert found["scale"] == pytest.approx(1 / 0.9, rel=0.01)
    assert found["turn_deg"] == pytest.approx(40, abs=0.5)
    assert 3 <= found["inliers"] <= found["blocks"]
    assert found["ellipse"]["a_px"] >= found["ellipse"]["b_px"] > 0
    assert np.linalg.eigvalsh(found["covariance_px2"]).min() > 0


def test_the_answer_is_the_same_in_python_and_each_time(winter: Path, summer: Path) -> None:
    found = rsloc_db.match(winter, str(summer))
    assert found.matched
    assert found.as_dict() == json.loads(run(winter, summer, "--json").stdout)


def test_text_says_what_was_found(winter: Path, summer: Path) -> None:
    done = run(winter, summer, "--scale", 0.8, 1.5, "--turn", -20, 90)
    assert done.exit_code == 0, done.output
    assert "matched: " in done.stdout
    assert "blocks agree on one transform" in done.stdout
    assert "degrees clockwise" in done.stdout
    assert "best guess" not in done.stdout


def test_other_places_do_not_match(elsewhere: Path, summer: Path) -> None:
    done = run(elsewhere, summer, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["verdict"] == "not_matched"
    assert "not matched: " in run(elsewhere, summer).stdout


def test_an_image_without_structure_has_no_transform(folder: Path, summer: Path) -> None:
    grey = save(folder / "grey.png", np.full((200, 200, 3), 90, np.uint8))
    found = rsloc_db.match(grey, summer)
    assert not found.matched
    assert found.as_dict()["verdict"] == "not_matched"
    json.dumps(found.as_dict(), allow_nan=False)


@pytest.mark.parametrize("name", ["board.png", "new/board.jpg"])
def test_the_picture_shows_a_on_b(winter: Path, summer: Path, tmp_path: Path, name: str) -> None:
    done = run(winter, summer, "--picture", tmp_path / name)
    assert done.exit_code == 0, done.output
    board, below = cv2.imread(str(tmp_path / name)), cv2.imread(str(summer))
    assert board is not None
    assert below is not None
    assert board.shape == below.shape
    same = np.abs(board.astype(int) - below).max(axis=2) < 30
    # every other square, and what A does not reach, is B; the rest is another season
    assert 0.5 < same.mean() < 0.9
    square = SIDE_PX // 8
    assert same[square * 4 : square * 5, square * 3 : square * 4].all()
    assert not same[square * 4 : square * 5, square * 4 : square * 5].all()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--scale", 3, 1), "least and a greatest scale"),
        (("--scale", 0, 1), "least and a greatest scale"),
        (("--scale", "nan", 1), "least and a greatest scale"),
        (("--turn", 90, -90), "expected a least turn"),
        (("--turn", -300, 300), "expected a least turn"),
        (("--picture", "board.txt"), "written as .png or .jpg"),
        (("--features", "orb"), "features 'orb' are unknown"),
        (("--features", "aliked"), "need a network"),
        (("--lightglue", "none.onnx"), "no features"),
    ],
)
def test_bad_options_are_one_line(
    words: tuple[object, ...],
    reason: str,
    winter: Path,
    summer: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["rsloc-db", "match", *map(str, (winter, summer, *words))])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    said = capfd.readouterr().err.strip()
    assert reason in said
    assert "\n" not in said


def test_bad_files_are_refused(summer: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    for path in (text, tmp_path / "missing.png", save(tmp_path / "tiny.png", land(64, 1)[:20, :20])):
        with pytest.raises(ImageError, match=path.name):
            rsloc_db.match(path, summer)
        with pytest.raises(ImageError, match=path.name):
            rsloc_db.match(summer, path)


def test_a_picture_of_nothing_is_refused(folder: Path, tmp_path: Path) -> None:
    grey = save(folder / "flat.png", np.full((100, 100, 3), 90, np.uint8))
    found = rsloc_db.match(grey, grey)
    assert found.registration is None
    with pytest.raises(MatchError, match="nothing to draw"):
        found.write_picture(tmp_path / "board.png")


@pytest.mark.parametrize("k", [2, 5, 22, 38])
def test_real_pairs_are_matched(shared_data: Path, k: int) -> None:
    optical = shared_data / "pairs" / "optical"
    found = rsloc_db.match(optical / f"pair{k}_1.jpg", optical / f"pair{k}_2.jpg")
    assert found.matched
    assert found.registration is not None
    height, width = found.pair.image_a.shape[:2]
    centre = np.array([(width - 1) / 2, (height - 1) / 2, 1])
    off = (found.registration.matrix - np.loadtxt(optical / f"gt_{k}.txt")) @ centre
    assert np.hypot(*off) < 5


def test_two_years_in_two_utm_zones_are_matched_to_a_pixel(shared_data: Path) -> None:
    folder = shared_data / "pairs" / "s2_california"
    red, blue = folder / "crop20200802" / "B04.tif", folder / "crop20210708" / "B02.tif"
    found = rsloc_db.match(red, blue)
    assert found.matched
    with rasterio.open(red) as a, rasterio.open(blue) as b:
        there = Transformer.from_crs(a.crs, b.crs, always_xy=True)
        column, row = ~b.transform @ there.transform(*(a.transform @ (a.width / 2, a.height / 2)))
    # georeferences count from the corner of the first pixel
    np.testing.assert_allclose(found.as_dict()["center"], [column - 0.5, row - 0.5], atol=1)


@pytest.mark.parametrize(("a", "b"), [(2, 4), (12, 20)])
def test_real_pairs_of_two_places_are_not(shared_data: Path, a: int, b: int) -> None:
    optical = shared_data / "pairs" / "optical"
    assert not rsloc_db.match(optical / f"pair{a}_1.jpg", optical / f"pair{b}_2.jpg").matched


def test_features_are_followed_as_well(winter: Path, summer: Path, true: Floats) -> None:
    done = run(winter, summer, "--features", "sift", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["verdict"] == "matched"
    np.testing.assert_allclose(np.array(found["matrix"])[:, :2], true[:, :2], atol=0.01)
    assert found == rsloc_db.match(winter, summer, features="sift").as_dict()


def test_help_states_what_is_searched_if_nothing_is_said() -> None:
    shown = " ".join(CliRunner().invoke(app, ["match", "--help"], terminal_width=200).stdout.split())
    for low, high in (SCALES, TURNS_DEG):
        assert f"[default: ({low:g} {high:g})]" in shown
