"""How fast the explorer's page is in Debian's chromium without a graphics card; benchmark_explorer.py calls these."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from playwright.sync_api import Page

# From the input event of a slider to the frame that shows the new picture or columns.
_ANSWERS = """async (moves) => {
    const input = document.querySelector(".slider input");
    const [low, high] = [Number(input.min), Number(input.max)];
    const times = [];
    for (let move = 0; move < moves; move++) {
        const painted = lfm.app.painted;
        input.value = low + (high - low) * (((move + 1) * 0.618034) % 1);
        const start = performance.now();
        input.dispatchEvent(new Event("input"));
        while (lfm.app.painted === painted) await new Promise((resolve) => setTimeout(resolve, 0));
        await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 0)));
        times.push(performance.now() - start);
    }
    return times;
}"""
# Records the time between frames until window.stopFrames() is called.
_FRAMES = """() => {
    const times = [];
    let [last, on] = [performance.now(), true];
    const step = (now) => {
        times.push(now - last);
        last = now;
        if (on) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
    window.stopFrames = () => { on = false; return times.slice(1); };
}"""


@contextmanager
def opened(url: str, width: int = 1440, height: int = 900) -> Iterator[Page]:
    """The page at an address, in a browser of its own, once all of it is drawn.

    Raises:
        FileNotFoundError: there is no chromium here.
    """
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        raise FileNotFoundError("there is no chromium here; on Debian: apt-get install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(url)
        page.wait_for_selector("main:not([aria-busy])", timeout=120_000)
        yield page
        browser.close()


def slider_answers(page: Page, moves: int = 100) -> np.ndarray:
    """Milliseconds from each of some moves of the first slider to the frame that shows its answer, (moves,)."""
    return np.array(page.evaluate(_ANSWERS, moves))


def first_points(page: Page) -> float:
    """Milliseconds from the request of the page until all its points were drawn, their transfer included."""
    return float(page.evaluate("performance.getEntriesByName('lfm-points')[0].startTime"))


def drawn_points(page: Page, times: int = 20) -> np.ndarray:
    """Milliseconds to draw all points of the map again, (times,)."""
    drawing = """(times) => Array.from({ length: times }, () => {
        const start = performance.now();
        lfm.app.map.draw();
        return performance.now() - start;
    })"""
    return np.array(page.evaluate(drawing, times))


def panning_frames(page: Page, moves: int = 120) -> np.ndarray:
    """Milliseconds between frames while the mouse drags the map to and fro."""
    page.get_by_role("radio", name="Move").check()
    stage = page.locator("#stage").bounding_box()
    if stage is None:
        raise RuntimeError("the page shows no map")
    x, y = stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.evaluate(_FRAMES)
    for move in range(moves):
        angle = 2 * np.pi * move / 60
        page.mouse.move(x + 90 * np.sin(angle), y + 60 * (1 - np.cos(angle)))
    frames = np.array(page.evaluate("window.stopFrames()"))
    page.mouse.up()
    return frames
