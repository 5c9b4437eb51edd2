"""Images that are uploaded: their way through the queue, what is refused, and who may write."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psycopg
import pytest
from fastapi.testclient import TestClient
from httpx import Response
from lands import LEVEL, cut

from rsloc_db.service.app import create_app
from rsloc_db.service.options import ServiceOptions
from rsloc_db.service.uploads import make_room


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for uploads."""
    monkeypatch.setenv("RSLOC_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def client(answered_url: str, home: Path) -> Iterator[TestClient]:
    yield from asking(answered_url)


def asking(url: str, base_url: str = "http://127.0.0.1:8765", **options: Any) -> Iterator[TestClient]:
    with TestClient(create_app(url, ServiceOptions(**options)), base_url=base_url) as client:
        yield client


def png(tmp_path: Path, **of: Any) -> bytes:
    return cut(**of).write_bare(tmp_path / "upload.png").read_bytes()


def send(client: TestClient, data: bytes, name: str = "my image.png", headers: Any = None, **form: Any) -> Response:
    return client.post("/api/jobs", files={"file": (name, data)}, data=form, headers=headers)


def finished(client: TestClient, key: str) -> dict:
    for _ in range(600):
        job = client.get(f"/api/jobs/{key}").json()
        if job["state"] not in ("waiting", "running"):
            return job
        time.sleep(0.1)
    raise AssertionError(job)


def test_a_process_that_cannot_start_costs_one_job(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left() -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with monkeypatch.context() as patched:
        patched.setattr("rsloc_db.service.job_queue._start", none_left)
        job = finished(client, send(client, png(tmp_path), level=LEVEL).json()["id"])
    assert job["state"] == "failed"
    assert "no process could be started" in job["reason"]
    job = finished(client, send(client, png(tmp_path), level=LEVEL).json()["id"])
    assert (job["state"], job["verdict"]) == ("done", "accepted"), job


def test_an_uploaded_image_is_found(client: TestClient, tmp_path: Path, home: Path) -> None:
    sent = send(client, png(tmp_path), level=LEVEL, gallery="land")
    assert sent.status_code == 202
    job = finished(client, sent.json()["id"])
    assert (job["state"], job["verdict"]) == ("done", "accepted"), job
    assert [stage["name"] for stage in job["stages"]] == ["read", "retrieve", "cliques", "verify", "refine"]
    answer = client.get(f"/api/runs/{job['run']}/queries/{job['query']}").json()
    assert cut().error_m([answer["lon_deg"], answer["lat_deg"]]) < 10
    (kept,) = (home / "uploads").iterdir()
    assert kept.name.startswith("my_image-")
    assert client.get("/api/jobs").json() == [job]


def test_the_truth_in_a_file_is_not_loaded(client: TestClient, tmp_path: Path, answered_url: str) -> None:
    """A georeferenced upload gives its scale and nothing else."""
    sent = send(client, cut(at=(1100.0, 900.0)).write(tmp_path / "scene.tif").read_bytes(), "scene.tif")
    job = finished(client, sent.json()["id"])
    assert job["verdict"] == "accepted", job
    with psycopg.connect(answered_url) as conn:
        assert conn.execute("SELECT count(*) FROM query_truth").fetchone() == (0,)


def test_what_is_wrong_with_an_image_is_told(client: TestClient) -> None:
    broken = send(client, b"\x89PNG\r\n\x1a\n" + bytes(100))
    job = finished(client, broken.json()["id"])
    assert job["state"] == "failed"
    assert "cannot read the image" in job["reason"]


def test_waiting_and_running_jobs_are_cancelled(client: TestClient, tmp_path: Path, answered_url: str) -> None:
    data = png(tmp_path, at=(800.0, 900.0))
    first, second = (send(client, data, rotation="free", level=LEVEL).json()["id"] for _ in range(2))
    assert client.get(f"/api/jobs/{second}").json()["ahead"] == 1
    for key in (second, first):
        assert client.delete(f"/api/jobs/{key}").json()["state"] == "cancelled"
        assert client.delete(f"/api/jobs/{key}").status_code == 409
    assert finished(client, first)["reason"] == "cancelled on request"
    # before the next job the unfinished run of this one is forgotten
    assert client.delete("/api/jobs/" + 32 * "0").status_code == 404
    # the queue goes on
    again = send(client, b"\x89PNG\r\n\x1a\n")
    assert finished(client, again.json()["id"])["state"] == "failed"
    with psycopg.connect(answered_url) as conn:
        assert conn.execute("SELECT count(*) FROM run_query WHERE status = 'pending'").fetchone() == (0,)


def test_a_process_that_dies_ends_its_job(client: TestClient, tmp_path: Path) -> None:
    key = send(client, png(tmp_path, at=(700.0, 900.0)), rotation="free", level=LEVEL).json()["id"]
    while client.app.state.queue._process is None:
        time.sleep(0.01)
    os.kill(client.app.state.queue._process.pid, 9)
    job = finished(client, key)
    assert (job["state"], job["reason"]) == ("failed", "its process ended without an answer")


def test_no_image_takes_longer_than_allowed(answered_url: str, home: Path, tmp_path: Path) -> None:
    for client in asking(answered_url, max_seconds=0.2):
        job = finished(client, send(client, png(tmp_path)).json()["id"])
        assert job["state"] == "failed"
        assert "longer than" in job["reason"]


def test_large_images_are_refused(answered_url: str, home: Path) -> None:
    _, bomb = cv2.imencode(".png", np.zeros((3000, 3000), np.uint8))
    assert len(bomb) < 100_000
    for client in asking(answered_url, max_megapixels=4, max_upload_mb=0.5):
        job = finished(client, send(client, bomb.tobytes()).json()["id"])
        assert job["state"] == "failed"
        assert "3000 x 3000 pixels: at most 4,000,000" in job["reason"]
        assert send(client, bytes(2_000_000)).status_code == 413
        chunks = (bytes(100_000) for _ in range(30))
        answer = client.post("/api/jobs", content=chunks, headers={"Content-Type": "multipart/form-data; boundary=x"})
        assert answer.status_code == 413, answer.text


def test_only_images_are_taken(client: TestClient, home: Path) -> None:
    for data in (b"", b"id,name\n1,2\n", b"<svg></svg>", b"PK\x03\x04"):
        assert send(client, data, "../../set.csv").status_code in (415, 422)
    kept = home / "uploads"
    assert not kept.exists() or not list(kept.iterdir())


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        (r"C:\scans\a b.tif", "a_b"),
        ("set.csv", "set"),
        ("...", "image"),
        ("-x.png", "-x"),
    ],
)
def test_names_lead_nowhere(client: TestClient, home: Path, name: str, kept: str) -> None:
    assert send(client, b"\x89PNG\r\n\x1a\n", name).status_code == 202
    (path,) = (home / "uploads").iterdir()
    assert path.name.rsplit("-", 1)[0] == kept
    assert path.suffix == ".png"


def test_bad_options_are_refused(client: TestClient) -> None:
    data = b"\x89PNG\r\n\x1a\n"
    assert send(client, data, level=99).status_code == 422
    assert send(client, data, level=3, gsd=3.0).status_code == 422
    assert send(client, data, gallery="sea").status_code == 404
    # an area is GeoJSON, never the name of a file
    assert send(client, data, within="/etc/passwd").status_code == 422


def test_no_more_wait_than_allowed(answered_url: str, home: Path, tmp_path: Path) -> None:
    data = png(tmp_path, at=(900.0, 800.0))
    for client in asking(answered_url, max_waiting=1):
        codes = [send(client, data, rotation="free", level=LEVEL).status_code for _ in range(4)]
        assert codes[-1] == 429
        assert codes[0] == 202


def test_the_oldest_uploads_make_room(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "middle", "old")):
        path = tmp_path / name
        path.write_bytes(bytes(100))
        os.utime(path, (1000 - age, 1000 - age))
    make_room(tmp_path, 150, {tmp_path / "old"})
    assert {path.name for path in tmp_path.iterdir()} == {"old"}


def test_writing_needs_the_token(answered_url: str, home: Path) -> None:
    data = b"\x89PNG\r\n\x1a\n"
    for client in asking(answered_url, "http://rsloc.example", host="0.0.0.0", token="secret"):
        assert client.get("/api/runs").status_code == 200
        assert send(client, data).status_code == 401
        assert send(client, data, headers={"Authorization": "Bearer wrong"}).status_code == 401
        sent = send(client, data, headers={"Authorization": "Bearer secret"})
        assert sent.status_code == 202
        assert client.delete(f"/api/jobs/{sent.json()['id']}").status_code == 401


def test_other_sites_are_kept_out(client: TestClient) -> None:
    assert client.get("/api/runs", headers={"Host": "evil.example"}).status_code == 403
    assert client.get("/api/runs", headers={"Host": "localhost:8765"}).status_code == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9"):
        assert send(client, b"\x89PNG\r\n\x1a\n", headers={"Origin": origin}).status_code == 403
    assert send(client, b"\x89PNG\r\n\x1a\n", headers={"Origin": "http://127.0.0.1:8765"}).status_code == 202


def test_answers_forbid_code_of_others(client: TestClient) -> None:
    policy = client.get("/").headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "http" not in policy
    assert "access-control-allow-origin" not in client.get("/api/runs").headers
