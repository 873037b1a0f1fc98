"""A browser and explorers to open in it, one of each for all tests of the page."""

import shutil
import time

import pytest
import torch

import pyro_lfm as lfm

CHROMIUM = shutil.which("chromium")
# The picture of the decoded row.
MEAN = "canvas[data-role=mean]"


# Of a module, as the driver's event loop runs in the thread of the tests, where others could not run one of theirs.
@pytest.fixture(scope="module")
def browser():
    """Debian's chromium, without a graphics card."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no chromium here: tests/explorer/install_chromium.sh installs Debian's")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def digits_fit():
    """A deep fit of 300 digits, 16 grey levels of 8 x 8 pixels, and their labels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    rows = torch.tensor(digits.data[:300], dtype=torch.float32)
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(4), x=lfm.Gaussian(64, mean=lfm.MLP(32)))
    guide = lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(32)))
    inference = lfm.SVI(guide, steps=150, learning_rate=1e-2)
    return lfm.fit(model, rows, inference, seed=0, progress=False), rows, digits.target[:300]


@pytest.fixture(scope="session")
def digits(digits_fit):
    """The address of an explorer of the digits."""
    fit, rows, target = digits_fit
    attributes = {"ink": rows.mean(1), "zero": target == 0}
    with lfm.explore(
        fit, rows, labels={"digit": target}, attributes=attributes, port=0, block=False
    ) as explorer:
        yield explorer.url


@pytest.fixture(scope="session")
def table():
    """The address of an explorer of a mixed table."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    health = rng.normal(size=120)
    frame = pd.DataFrame(
        {
            "pressure": 125 - 8 * health + 4 * rng.normal(size=120),
            "visits": rng.poisson(4 * np.exp(-0.3 * health)),
            "region": np.where(health > 0.5, "north", np.where(health < -0.5, "south", "west")),
            "a column with a name that is much longer than the panel in which it has to stand": health,
        }
    )
    columns = lfm.heterogeneous(frame)
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(1), **columns)
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    inference = lfm.SVI(guide, steps=60, learning_rate=3e-2)
    fit = lfm.fit(model, columns.data, inference, seed=0, progress=False)
    with lfm.explore(fit, frame, port=0, block=False) as explorer:
        yield explorer.url


class Opened:
    """A page that is open in the browser, and all that it asked for and complained of."""

    def __init__(self, context, url):
        self.context, self.url = context, url
        self.page = context.new_page()
        self.requests, self.complaints = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", self._record)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(url)
        self.page.wait_for_selector("main:not([aria-busy])")

    def _record(self, message):
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def settle(self):
        """Waits until nothing is asked for and all is drawn."""
        self.page.evaluate("lfm.app.settled()")

    def until(self, condition, seconds=10):
        """Waits for a condition in JavaScript. Playwright's own way is an eval, which the page's policy forbids."""
        deadline = time.monotonic() + seconds
        while not self.page.evaluate(condition):
            assert time.monotonic() < deadline, f"{condition} did not come true in {seconds} s"
            self.page.wait_for_timeout(20)

    def press_first_slider(self, times=5):
        """Moves the first slider by keys; the picture and the point before, and those after."""
        before = self.pixels(MEAN), self.state("z")
        self.page.locator(".slider input").first.focus()
        for _ in range(times):
            self.page.keyboard.press("ArrowRight")
        self.settle()
        return before, (self.pixels(MEAN), self.state("z"))

    def state(self, name):
        """An entry of the page's state; typed arrays as lists."""
        value = f"lfm.app.store.state.{name}"
        return self.page.evaluate(f"ArrayBuffer.isView({value}) ? Array.from({value}) : {value}")

    def pixels(self, selector):
        """The red, green and blue of every pixel of a canvas, (H, W, 3)."""
        return torch.tensor(
            self.page.evaluate(
                """selector => {
                    const canvas = document.querySelector(selector);
                    const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                    const rows = [];
                    for (let y = 0; y < canvas.height; y++) {
                        rows.push([]);
                        for (let x = 0; x < canvas.width; x++) {
                            rows[y].push(Array.from(image.data.slice(4 * (y * canvas.width + x)).slice(0, 3)));
                        }
                    }
                    return rows;
                }""",
                selector,
            )
        )

    def place_of(self, row):
        """Where a row lies on the map, in pixels of the window."""
        return self.page.evaluate("row => lfm.app.map.placeOf(row)", row)


@pytest.fixture
def open_page(browser):
    """open_page(url, width=1440, ...) opens a page in a fresh window; complaints and foreign requests fail the test."""
    opened = []

    def open_one(url, width=1440, height=900, expected=(), **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        opened.append((Opened(context, url), expected))
        return opened[-1][0]

    yield open_one
    for one, expected in opened:
        one.context.close()
        assert [text for text in one.complaints if not any(part in text for part in expected)] == []
        own = (one.url.split("#")[0], "data:", "blob:")
        assert [url for url in one.requests if not url.startswith(own)] == []
