"""The page of the explorer in a browser: what it shows is what the fit says, and what is chosen on it is what is meant."""

import json
import struct
import zlib

import numpy as np
import pytest
import torch

import pyro_lfm as lfm

MEAN = "canvas[data-role=mean]"


def decoded(fit, page_state, order):
    """The decoder's mean at the point of the page, (64,), in the units of the rows."""
    z = torch.zeros(1, 4)
    z[0, order] = torch.tensor(page_state, dtype=torch.float32)
    with torch.no_grad():
        return fit.model.factors["x"](z).mean[0]


def order_of(opened):
    """The entries of z in the order of the sliders."""
    return [factor["entry"] - 1 for factor in opened.page.evaluate("lfm.app.info.factors")]


def as_ink(mean, info):
    """What the picture must show: 8 x 8 grey levels, ink dark on paper."""
    [view] = info["views"]
    level = 255 * (mean.reshape(8, 8) - view["low"]) / (view["high"] - view["low"])
    return (255 - level).clamp(0, 255).round().long()


def png(grey):
    """A PNG of 8-bit grey levels, (H, W)."""
    height, width = grey.shape

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    lines = b"".join(b"\0" + bytes(line) for line in grey.astype(np.uint8))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def test_a_slider_moves_by_keys_and_the_picture_is_the_decoders(open_page, digits, digits_fit):
    fit = digits_fit[0]
    opened = open_page(digits)
    info, order = opened.page.evaluate("lfm.app.info"), order_of(opened)
    (before, z), (after, moved) = opened.press_first_slider()
    assert moved[0] > z[0] and moved[1:] == z[1:]
    for pixels, point in ((before, z), (after, moved)):
        shown = as_ink(decoded(fit, point, order), info)
        # The answer has some digits fewer than the decoder: one grey level either way.
        assert (pixels - shown[..., None]).abs().max() <= 1
    assert not torch.equal(before, after)


def test_the_picture_and_the_row_are_saved_as_they_are_shown(open_page, digits):
    image = pytest.importorskip("PIL.Image")
    opened = open_page(digits)
    with opened.page.expect_download() as download:
        opened.page.get_by_role("button", name="PNG").click()
    saved = torch.from_numpy(np.array(image.open(download.value.path()).convert("RGB"))).long()
    # Each pixel of the model is a square of the file.
    assert torch.equal(saved, opened.pixels(MEAN).repeat_interleave(32, 0).repeat_interleave(32, 1))
    with opened.page.expect_download() as download:
        opened.page.get_by_role("button", name="CSV").click()
    names, values = download.value.path().read_text().splitlines()
    mean = opened.page.evaluate("lfm.app.store.state.decoded[0].mean")
    assert names.split(",")[:2] == ["x.0", "x.1"] and [float(value) for value in values.split(",")] == mean


def test_sliders_stand_in_the_order_of_variance_explained(open_page, digits):
    opened = open_page(digits)
    shares = [factor["share"] for factor in opened.page.evaluate("lfm.app.info.factors")]
    assert shares == sorted(shares, reverse=True)
    names = opened.page.locator(".slider .name").all_inner_texts()
    assert names == [factor["name"] for factor in opened.page.evaluate("lfm.app.info.factors")]


def test_of_many_moves_one_request_is_under_way_and_the_last_wins(open_page, digits):
    opened = open_page(digits)
    opened.page.evaluate("""() => {
        const ask = lfm.app.source.decode;
        window.most = window.now = 0;
        lfm.app.source.decode = async (point) => {
            window.most = Math.max(window.most, ++window.now);
            try { return await ask(point); } finally { window.now--; }
        };
    }""")
    sent = len(opened.requests)
    last = opened.page.evaluate("""() => {
        const input = document.querySelector(".slider input");
        for (let step = 0; step <= 100; step++) {
            input.value = Number(input.min) + (step / 100) * (input.max - input.min);
            input.dispatchEvent(new Event("input"));
        }
        return Number(input.value);
    }""")
    opened.settle()
    assert opened.page.evaluate("window.most") == 1 and len(opened.requests) - sent <= 3
    assert opened.state("z")[0] == pytest.approx(last)
    assert json.loads(opened.page.evaluate("JSON.stringify(lfm.app.store.state.decoded)"))


def test_a_click_chooses_the_row_under_it(open_page, digits, digits_fit):
    opened = open_page(digits)
    x = torch.tensor(opened.page.evaluate("lfm.app.info.rows"))
    places = [opened.place_of(row) for row in range(int(x))]
    # A row without a near neighbour, so that the click can mean no other.
    gaps = torch.cdist(torch.tensor(places), torch.tensor(places)).fill_diagonal_(1e9).min(1).values
    row = int(gaps.argmax())
    opened.page.mouse.click(*places[row])
    opened.settle()
    assert opened.state("subject.row") == row
    posterior = digits_fit[0].posterior(digits_fit[1][row : row + 1]).mean[0]
    assert opened.state("z") == pytest.approx(posterior[order_of(opened)].tolist(), abs=1e-4)


def test_a_lasso_selects_the_rows_inside_it_and_no_others(open_page, digits):
    opened = open_page(digits)
    stage = opened.page.locator("#stage").bounding_box()
    middle = (stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2)
    corners = [
        (middle[0] + dx, middle[1] + dy) for dx, dy in ((-180, -150), (190, -90), (120, 170), (-140, 110))
    ]
    opened.page.get_by_role("radio", name="Lasso").check()
    opened.page.mouse.move(*corners[0])
    opened.page.mouse.down()
    for corner in (*corners[1:], corners[0]):
        opened.page.mouse.move(*corner, steps=8)
    opened.page.mouse.up()
    opened.settle()
    places = np.array([opened.place_of(row) for row in range(300)])
    # Inside a convex polygon: on the same side of all edges (clockwise on a screen).
    inside = np.ones(300, bool)
    for (ax, ay), (bx, by) in zip(corners, (*corners[1:], corners[0]), strict=True):
        inside &= (bx - ax) * (places[:, 1] - ay) - (by - ay) * (places[:, 0] - ax) > 0
    assert 10 < inside.sum() < 290
    assert opened.state("selected") == np.flatnonzero(inside).tolist()
    assert opened.page.locator(".count").inner_text().startswith(f"{inside.sum()} of 300 rows")
    with opened.page.expect_download() as download:
        opened.page.get_by_text("Export CSV").click()
    lines = download.value.path().read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["row", *map(str, np.flatnonzero(inside))]


def test_shift_selects_a_rectangle_and_the_legend_a_category(open_page, digits, digits_fit):
    opened = open_page(digits)
    opened.page.get_by_role("button", name="Select the rows with digit 3").or_(
        opened.page.locator(".legend .entry").nth(3)
    ).first.click()
    assert opened.state("selected") == np.flatnonzero(digits_fit[2] == 3).tolist()
    opened.page.get_by_role("radio", name="Lasso").check()
    stage = opened.page.locator("#stage").bounding_box()
    start, end = (stage["x"] + 100, stage["y"] + 90), (stage["x"] + 420, stage["y"] + 400)
    opened.page.keyboard.down("Shift")
    opened.page.mouse.move(*start)
    opened.page.mouse.down()
    opened.page.mouse.move(*end, steps=6)
    opened.page.mouse.up()
    opened.page.keyboard.up("Shift")
    places = np.array([opened.place_of(row) for row in range(300)])
    inside = ((places > start) & (places < end)).all(1)
    assert inside.any() and opened.state("selected") == np.flatnonzero(inside).tolist()


def test_dragging_on_the_map_shows_what_lies_there(open_page, digits, digits_fit):
    opened = open_page(digits)
    stage = opened.page.locator("#stage").bounding_box()
    z = opened.state("z")
    target = (stage["x"] + stage["width"] * 0.3, stage["y"] + stage["height"] * 0.25)
    opened.page.mouse.move(stage["x"] + 10, stage["y"] + 60)
    opened.page.mouse.down()
    opened.page.mouse.move(*target, steps=10)
    opened.page.mouse.up()
    opened.settle()
    moved = opened.state("z")
    assert moved[2:] == z[2:] and moved[:2] != z[:2]
    shown = as_ink(decoded(digits_fit[0], moved, order_of(opened)), opened.page.evaluate("lfm.app.info"))
    assert (opened.pixels(MEAN) - shown[..., None]).abs().max() <= 1
    # The marker of the present point is where the pointer is: its place leads back to it.
    back = opened.page.evaluate(
        """([x, y]) => {
        const map = lfm.projection(lfm.app.info, lfm.app.points, lfm.app.store.state.map);
        const stage = document.getElementById("stage");
        const camera = lfm.camera(map, lfm.app.store.state.map, stage.clientWidth, stage.clientHeight);
        return camera.toScreen(map.forward(lfm.app.store.state.z));
    }""",
        target,
    )
    border = 1
    assert back == pytest.approx([target[0] - stage["x"] - border, target[1] - stage["y"] - border], abs=1.5)


def test_every_projection_leads_back_and_its_ellipses_are_the_posteriors(open_page, digits):
    opened = open_page(digits)
    for kind, dimensions in (("factors", 2), ("factors", 3), ("pca", 2), ("pca", 3)):
        back, covariance, slopes, latent = opened.page.evaluate(
            """([kind, dimensions]) => {
                const { state } = lfm.app.store;
                const seen = { ...state.map, kind, dimensions, turn: [0.4, 0.7], zoom: 1.3, axes: [2, 0, 1] };
                const map = lfm.projection(lfm.app.info, lfm.app.points, seen);
                const camera = lfm.camera(map, seen, 600, 400);
                const screen = (z) => camera.toScreen(map.forward(z));
                const z = map.inverse(camera.fromScreen([200, 250], map.forward(state.z)), state.z);
                const { covariance } = state.subject.encoded;
                const slopes = z.map((_, k) => {
                    const [up, down] = [1, -1].map((sign) => screen(z.map((value, j) => value + (j === k ? sign : 0))));
                    return [(up[0] - down[0]) / 2, (up[1] - down[1]) / 2];
                });
                return [screen(z), camera.covariance(map.covariance(covariance)), slopes, covariance];
            }""",
            [kind, dimensions],
        )
        assert back == pytest.approx([200, 250], abs=1e-3)
        expected = np.array(slopes).T @ np.array(latent) @ np.array(slopes)
        np.testing.assert_allclose(covariance, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def test_a_learned_plane_is_a_map_as_well(open_page, digits):
    opened = open_page(digits)
    opened.page.get_by_label("Map", exact=True).select_option(label="Learned plane")
    opened.until("lfm.app.store.state.map.kind === 'learned'")
    opened.settle()
    rows = [3, 77, 200]
    places = [opened.place_of(row) for row in rows]
    opened.page.mouse.click(*places[1])
    opened.settle()
    chosen = opened.state("subject.row")
    assert opened.place_of(chosen) == pytest.approx(places[1], abs=15)
    # Between the rows, a place stands for the mean of the rows about it.
    z = opened.page.evaluate("""() => {
        const map = lfm.projection(lfm.app.info, lfm.app.points, lfm.app.store.state.map);
        const { coordinates } = map;
        return map.inverse([coordinates[2 * 77], coordinates[2 * 77 + 1]], lfm.app.store.state.z);
    }""")
    own = opened.page.evaluate("Array.from(lfm.app.points.latents.slice(4 * 77, 4 * 78))")
    assert z == pytest.approx(own, abs=1e-3)


def test_a_picture_is_encoded_and_bad_files_are_answered_in_words(open_page, digits, digits_fit, tmp_path):
    fit, rows, _ = digits_fit
    opened = open_page(digits, expected=["400 (Bad Request)", "422"])
    picture, text, short = tmp_path / "seven.png", tmp_path / "notes.png", tmp_path / "row.csv"
    # Ink on paper, as the page shows it, in whole grey levels.
    picture.write_bytes(png((255 - 255 * rows[7] / 16).round().reshape(8, 8).numpy()))
    text.write_text("this is no picture")
    short.write_text("1,2,3\n")
    chooser = opened.page.locator("input[type=file]")
    for file, words in ((text, "not a picture"), (short, "3 values")):
        chooser.set_input_files(file)
        fault = opened.page.locator("#fault span")
        fault.wait_for()
        opened.until(f"document.getElementById('fault').innerText.includes('{words}')")
        assert "Error" not in fault.inner_text() and "undefined" not in fault.inner_text()
    chooser.set_input_files(picture)
    opened.until("lfm.app.store.state.subject.name === 'seven.png'")
    opened.settle()
    assert opened.page.locator("#fault").is_hidden()
    posterior = fit.posterior(rows[7:8]).mean[0]
    assert opened.state("z") == pytest.approx(posterior[order_of(opened)].tolist(), abs=0.05)


def test_a_link_restores_the_state(open_page, digits):
    opened = open_page(digits)
    opened.page.evaluate("""async () => {
        const { actions } = lfm.app;
        await actions.chooseRow(5);
        actions.setEnd("a");
        await actions.chooseRow(9);
        actions.setEnd("b");
        actions.setFactor(1, 0.25);
        actions.setMap({ kind: "pca", dimensions: 3, turn: [1, 0.5], zoom: 2 });
        actions.select(Uint32Array.from([1, 2, 3, 40]));
        await lfm.app.settled();
    }""")
    opened.until("location.hash.includes('rows=')")
    again = open_page(opened.page.url)
    for name in ("subject.row", "selected", "map", "a.row", "b.row", "colour", "tab"):
        assert again.state(name) == opened.state(name), name
    assert again.state("z") == pytest.approx(opened.state("z"), rel=1e-5)
    assert (again.pixels(MEAN) - opened.pixels(MEAN)).abs().max() <= 1


def test_the_way_between_two_rows_begins_and_ends_at_them(open_page, digits):
    opened = open_page(digits)
    ends = opened.page.evaluate("""async () => {
        const { actions, store } = lfm.app;
        const points = [];
        for (const [end, row] of [["a", 3], ["b", 8]]) {
            await actions.chooseRow(row);
            actions.setEnd(end);
            points.push(store.state.z);
        }
        store.change({ tab: "between" });
        return points;
    }""")
    slider = opened.page.get_by_label("From A to B")
    opened.until("document.querySelectorAll('.strip canvas').length === 7")
    for key, point in (("Home", ends[0]), ("End", ends[1])):
        slider.press(key)
        opened.settle()
        assert opened.state("z") == pytest.approx(point)


def test_rows_are_generated_and_edited_with_attributes(open_page, digits):
    opened = open_page(digits)
    opened.page.get_by_role("tab", name="Attributes").click()
    opened.page.get_by_role("button", name="Generate").click()
    opened.until("document.getElementById('fault').innerText.includes('No attribute is asked for')")
    ink = opened.page.get_by_role("slider", name="ink")
    ink.press("End")
    assert opened.page.get_by_role("checkbox", name="ink").is_checked()
    opened.page.get_by_label("rows", exact=True).fill("3")
    opened.page.get_by_role("button", name="Generate").click()
    opened.until("document.querySelectorAll('.result canvas').length === 3")
    # A row that is clicked becomes the present point, with the picture of its card.
    opened.page.locator(".result .frame").nth(1).click()
    opened.settle()
    assert (opened.pixels(".result .frame:nth-child(2) canvas") - opened.pixels(MEAN)).abs().max() <= 1
    dark = opened.pixels(MEAN).double().mean()
    ink.press("Home")
    opened.page.get_by_role("button", name="Edit this row").click()
    opened.until("document.querySelectorAll('.changes tr').length === 3")
    opened.settle()
    assert opened.pixels(MEAN).double().mean() > dark + 5  # less ink: lighter
    before = opened.state("z")
    opened.page.get_by_role("checkbox", name="ink").uncheck()
    opened.page.get_by_role("checkbox", name="zero").check()
    opened.page.get_by_role("button", name="Edit this row").click()
    opened.until(f"lfm.app.store.state.z[0] !== {before[0]!r}")
    cells = opened.page.locator(".changes tr", has_text="zero").locator("td").all_inner_texts()
    assert cells[1].startswith("yes")


def test_the_map_is_used_by_keys_alone(open_page, digits):
    opened = open_page(digits)
    z = opened.state("z")
    opened.page.locator("#stage").focus()
    for key in ("ArrowRight", "ArrowUp"):
        opened.page.keyboard.press(key)
    moved = opened.state("z")
    assert moved[0] > z[0] and moved[1] > z[1] and moved[2:] == z[2:]
    opened.page.keyboard.press("+")
    assert opened.state("map.zoom") > 1
    opened.page.keyboard.press("Shift+ArrowLeft")
    assert opened.state("map.centre")[0] != 0
    opened.page.keyboard.press("0")
    assert opened.state("map.zoom") == 1
    opened.page.get_by_role("tab", name="Selection").click()
    opened.page.get_by_label("Number of nearest rows").fill("5")
    opened.page.get_by_text("Select nearest").click()
    assert len(opened.state("selected")) == 5
    opened.page.locator("#stage").focus()
    opened.page.keyboard.press("Escape")
    assert opened.state("selected") is None


def test_one_factor_and_a_table(open_page, table):
    opened = open_page(table)
    assert opened.page.locator(".slider").count() == 1
    assert opened.page.locator(".columns tbody tr").count() == 4
    cells = opened.page.evaluate("lfm.app.store.state.decoded[0].cells")
    shares = next(cell["probabilities"] for cell in cells if "probabilities" in cell)
    assert sum(shares) == pytest.approx(1, abs=1e-3)
    opened.page.get_by_label("A row as text").fill("region,pressure\nnorth,118.5\n")
    opened.page.get_by_role("button", name="Encode", exact=True).click()
    opened.until("lfm.app.store.state.subject.name === 'Pasted row'")
    opened.page.get_by_label("A row as text").fill("region,pressure\nmoon,118.5\n")
    opened.page.get_by_role("button", name="Encode", exact=True).click()
    opened.until("document.getElementById('fault').innerText.includes('no category \"moon\"')")


@pytest.mark.parametrize("shown, width, scheme", [("digits", 1440, "light"), ("table", 400, "dark")])
def test_nothing_serious_is_found_by_axe(open_page, shown, width, scheme, request):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    url = request.getfixturevalue(shown)
    # The page's policy forbids the script of axe itself.
    opened = open_page(url, width=width, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce")
    for tab in opened.page.get_by_role("tab").all():
        tab.click()
        complaints = axe.run(opened.page).response["violations"]
        serious = [rule for rule in complaints if rule["impact"] in ("serious", "critical")]
        assert not serious, [(rule["id"], [node["html"] for node in rule["nodes"]][:3]) for rule in serious]


def test_light_and_dark_follow_the_system_until_they_are_chosen(open_page, digits):
    opened = open_page(digits, color_scheme="dark")

    def paper():
        opened.settle()
        corner = "document.querySelector('.map-points').getContext('2d').getImageData(2, 60, 1, 1).data[0]"
        return opened.page.evaluate(corner)

    assert paper() < 60
    opened.page.get_by_role("button", name="Light").click()
    assert paper() > 200
    opened.page.reload()
    opened.page.wait_for_selector("main:not([aria-busy])")
    assert paper() > 200


def test_nothing_is_wider_than_a_small_screen(open_page, digits, table):
    for url in (digits, table):
        page = open_page(url, width=400, height=800, has_touch=True).page
        for tab in page.get_by_role("tab").all():
            tab.click()
            assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_explorer_says_what_the_server_is_when_it_is_gone(open_page, digits_fit):
    fit, rows, _ = digits_fit
    explorer = lfm.explore(fit, rows[:20], port=0, block=False)
    opened = open_page(explorer.url, expected=["ERR_CONNECTION"])
    explorer.close()
    opened.page.locator(".slider input").first.press("Home")
    opened.until("document.getElementById('fault').innerText.includes('does not answer')")


def test_two_fingers_zoom_the_map_and_one_explores(open_page, digits):
    opened = open_page(digits, width=400, height=800, has_touch=True, is_mobile=True)
    opened.page.locator("#stage").scroll_into_view_if_needed()
    stage = opened.page.locator("#stage").bounding_box()
    x, y = stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2
    touch = opened.context.new_cdp_session(opened.page)

    def send(kind, *points):
        touch.send(
            "Input.dispatchTouchEvent",
            {
                "type": kind,
                "touchPoints": [{"x": px, "y": py, "id": place} for place, (px, py) in enumerate(points)],
            },
        )

    send("touchStart", (x - 40, y), (x + 40, y))
    for spread in (50, 60, 80):
        send("touchMove", (x - spread, y), (x + spread, y))
    send("touchEnd")
    assert opened.state("map.zoom") == pytest.approx(2, rel=1e-6)
    z = opened.state("z")
    send("touchStart", (x - 60, y - 60))
    send("touchMove", (x - 40, y - 50))
    send("touchMove", (x - 30, y - 30))
    send("touchEnd")
    assert opened.state("z")[:2] != z[:2] and opened.state("map.zoom") == pytest.approx(2, rel=1e-6)


def test_sets_of_rows_survive_a_link(open_page, digits):
    opened, total = open_page(digits), 60_000
    for share in (0.0003, 0.2, 0.97, 1.0):
        rows = np.flatnonzero(np.random.default_rng(0).random(total) < share).tolist()
        written, read = opened.page.evaluate(
            """([rows, total]) => {
                const text = lfm.rowSets.write(rows, total);
                return [text, Array.from(lfm.rowSets.read(text, total))];
            }""",
            [rows, total],
        )
        assert read == rows and len(written) <= total / 6 + 2


def test_rows_are_read_as_people_write_them(open_page, table):
    opened = open_page(table)
    for text, values in {
        "118,3,west,0.1": [118, 3, 2, 0.1],
        "118.5\t3\twest\t": [118.5, 3, 2, None],
        "118,5;NA;north;-1e-2": [118.5, None, 0, -0.01],
        '[118, 3, "south", 0]': [118, 3, 1, 0],
        "note,visits,region\nx,7,north\ny,8,west\n": [None, 7, 0, None],
    }.items():
        row = opened.page.evaluate("text => lfm.readRow(text, lfm.app.info)", text)
        assert row["views"] == [values] and row["rows"] == (2 if "note" in text else 1)


def test_two_thousand_columns_and_one_row(open_page):
    rows = torch.randn(30, 2000)
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(2000, mean=lfm.Linear()))
    fit = lfm.fit(model, rows, lfm.EM(), seed=0, progress=False)
    with lfm.explore(fit, rows[:1], port=0, block=False) as explorer:
        opened = open_page(explorer.url)
        assert opened.state("subject.row") == 0
        assert opened.page.locator(".columns tbody tr").count() == 200
        names = opened.page.evaluate("lfm.app.info.views[0].columns.map(({ name }) => name)")
        opened.page.get_by_label("Filter columns").fill(names[1999])
        assert opened.page.locator(".columns tbody th").all_inner_texts() == [names[1999]]
        opened.page.locator(".slider input").first.press("ArrowRight")
        opened.settle()
        decoded = opened.page.evaluate("lfm.app.store.state.decoded[0].cells[1999].mean")
        shown = opened.page.locator(".columns tbody td.number").first.inner_text()
        assert float(shown.replace("\u2212", "-")) == pytest.approx(decoded, abs=0.01)
