"""The page in a real browser, headless Chromium: an image is dropped, found and looked at."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from lands import ELSEWHERE, LEVEL, cut
from playwright.sync_api import Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on PATH (Debian: apt install chromium)")
WAIT_MS = 60_000

DROP = """([name, data]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { type: "image/png" }));
  const zone = document.querySelector(".drop");
  for (const kind of ["dragenter", "dragover", "drop"])
    zone.dispatchEvent(new DragEvent(kind, { dataTransfer: carried, bubbles: true, cancelable: true }));
}"""
DRAWN = """() => {
  const images = [...document.querySelectorAll(".leaflet-tile, .query-image")];
  return images.length > 3 && images.every((i) => i.complete && i.naturalWidth
    && (i.className.includes("query") || getComputedStyle(i).opacity === "1"));
}"""
SLIDE = (
    "([id, value]) => { const s = document.getElementById(id); s.value = value; s.dispatchEvent(new Event('input')); }"
)


@pytest.fixture
def page(service_address: str) -> Iterator[Page]:
    """A page that asks nobody but the service, and whose every error fails the test."""
    problems: list[str] = []
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1200, "height": 800})
        opened.on("pageerror", lambda error: problems.append(str(error)))
        opened.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
        opened.on("request", lambda asked: outside(asked.url, service_address, problems))
        opened.goto(service_address)
        yield opened
        browser.close()
    assert problems == []


def outside(url: str, address: str, problems: list[str]) -> None:
    if not url.startswith((address, "blob:", "data:")):
        problems.append(f"asked for {url}")


def drop(page: Page, name: str, path: Path) -> None:
    page.evaluate(DROP, [name, base64.b64encode(path.read_bytes()).decode()])


def screenshot(page: Page) -> np.ndarray:
    """Take a picture of the map once all its tiles have come and have faded in."""
    page.wait_for_load_state("networkidle")
    page.wait_for_function(DRAWN)
    return cv2.imdecode(np.frombuffer(page.locator("#stage").screenshot(), np.uint8), cv2.IMREAD_COLOR)


def test_an_image_is_dropped_and_found(page: Page, tmp_path: Path) -> None:
    page.get_by_text("What is known of the image").click()
    page.get_by_label("Size of a pixel").select_option("level")
    page.get_by_role("spinbutton", name="Zoom level").fill(str(LEVEL))
    drop(page, "seen.png", cut(at=(1050.0, 950.0)).write_bare(tmp_path / "seen.png"))
    expect(page.locator(".steps li")).to_have_count(5)
    expect(page.locator("#verdict")).to_contain_text("Found", timeout=WAIT_MS)
    expect(page.get_by_role("heading", level=1)).to_contain_text("seen-")
    expect(page.locator(".facts").first).to_contain_text("95 % ellipse")
    image = page.locator("img.query-image")
    expect(image).to_be_visible()
    assert page.locator("img.leaflet-tile-loaded").count() > 3

    whole = screenshot(page)
    page.evaluate(SLIDE, ["opacity", 0])
    assert image.evaluate("image => getComputedStyle(image).opacity") == "0"
    without = screenshot(page)
    page.evaluate(SLIDE, ["opacity", 100])
    page.evaluate(SLIDE, ["swipe-share", 50])
    expect(page.get_by_role("slider", name="Swipe between")).to_have_attribute("aria-valuenow", "50")
    half = screenshot(page)
    middle = whole.shape[1] // 2
    left, right = np.s_[50:-60, : middle - 40], np.s_[50:-60, middle + 40 : -60]
    # left of the line the image is shown, right of it the gallery
    assert (
        np.abs(half[left].astype(int) - whole[left]).mean()
        < 0.5
        < np.abs(half[left].astype(int) - without[left]).mean()
    )
    assert np.abs(half[right].astype(int) - without[right]).mean() < 0.5
    # the handle goes by keys
    page.get_by_role("slider", name="Swipe between").press("ArrowLeft")
    expect(page.locator("#swipe-share")).to_have_value("48")

    page.get_by_label("Cliques").check()
    page.get_by_label("Votes").check()
    page.get_by_label("Matches").check()
    page.wait_for_load_state("networkidle")
    assert page.locator(".leaflet-spots-pane path").count() > 20


def test_an_image_of_elsewhere_is_not_here(page: Page, tmp_path: Path) -> None:
    page.get_by_text("What is known of the image").click()
    page.get_by_label("Size of a pixel").select_option("level")
    page.get_by_role("spinbutton", name="Zoom level").fill(str(LEVEL))
    drop(page, "other.png", cut(at=(800.0, 900.0), seed=ELSEWHERE).write_bare(tmp_path / "other.png"))
    expect(page.locator("#verdict")).to_contain_text("Not here", timeout=WAIT_MS)
    expect(page.locator("#verdict")).to_contain_text("chance explains that")
    expect(page.locator("img.preview")).to_be_visible()
    expect(page.locator("img.query-image")).to_have_count(0)


def test_runs_are_browsed_and_compared(page: Page) -> None:
    page.get_by_role("link", name="Runs", exact=True).click()
    page.get_by_role("link", name="1", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Run 1: set")
    page.get_by_label("Verdict").select_option("not_here")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody")).to_contain_text("other.png")
    page.get_by_label("Verdict").select_option("")
    page.get_by_role("link", name="found.png").click()
    expect(page.locator("#verdict")).to_contain_text("Found")
    page.goto(page.url.split("#")[0] + "#/compare/1/1")
    expect(page.get_by_role("heading", level=1)).to_have_text("Run 1 against run 1")
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.locator("tbody tr").first).to_contain_text("0.0 m")


def test_galleries_are_browsed_down_to_a_tile(page: Page) -> None:
    page.get_by_role("link", name="Galleries").click()
    page.get_by_role("link", name="land").click()
    expect(page.locator("#panel")).to_contain_text("256 in 256 cells")
    expect(page.locator("#panel")).to_contain_text("blocks of up to")
    page.evaluate("import('/page/map.js').then(({ map }) => map.setView([47.06, 0.5], 14, { animate: false }))")
    expect(page.locator("#panel")).to_contain_text("tiles in view", timeout=WAIT_MS)
    page.wait_for_load_state("networkidle")
    page.mouse.click(*middle_of_map(page))
    expect(page.locator(".tiles img")).to_have_count(1)
    expect(page.locator("figcaption")).to_have_text("2017-07-14")


def middle_of_map(page: Page) -> tuple[float, float]:
    box = page.locator("#map").bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2 + 7, box["y"] + box["height"] / 2 + 7


def test_a_narrow_page_keeps_all_within_its_width(page: Page) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    for view in ("/", "/runs", "/runs/1", "/galleries", "/galleries/land", "/compare/1/1", "/api"):
        page.goto(page.url.split("#")[0] + f"#{view}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert page.evaluate("document.querySelector('main').scrollWidth") <= 400, view
