"""The page as one file from disk, with the network off, answers as the explorer does."""

import json
import re

import numpy as np
import pytest
import torch
from explored import labelled, of_pets

import pyro_lfm as lfm
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.explorer.exported.array_block import ArrayBlock
from pyro_lfm.explorer.exported.page_rows import page_rows
from pyro_lfm.explorer.exported_page import ROOM, export_page
from pyro_lfm.explorer.page_answers import Answers
from pyro_lfm.explorer.session import Session
from pyro_lfm.explorer.user_rows import user_rows

pytest.importorskip("onnxscript")

MEAN = "canvas[data-role=mean]"
ASK = "([name, given]) => lfm.app.source[name](...given)"


def session_of(fit, data, **options):
    return Session(fit, user_rows(fit, data), options.pop("labels", {}), **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def digits_page(digits_fit, folder):
    fit, rows, target = digits_fit
    return lfm.explore(fit, rows, labels={"digit": target}, export=folder / "digits.html")


@pytest.fixture(scope="module")
def pets(folder):
    fit, path = of_pets(folder)
    session = session_of(fit, path)
    return session, export_page(session, folder / "pets.html")


@pytest.fixture
def open_offline(open_page):
    def open_one(path, **options):
        return open_page(path.as_uri(), offline=True, **options)

    return open_one


def same(own, other, tolerance=2e-4):
    """Whether two answers are equal up to rounding, relative to the scale of a list."""
    if isinstance(other, dict):
        return own.keys() == other.keys() and all(same(own[k], other[k], tolerance) for k in other)
    if isinstance(other, list):
        if not all(isinstance(value, int | float) or value is None for value in other):
            return len(own) == len(other) and all(
                same(a, b, tolerance) for a, b in zip(own, other, strict=True)
            )
        one, two = (np.array([np.nan if v is None else v for v in each], float) for each in (own, other))
        scale = max(1.0, np.nanmax(np.abs(two), initial=0.0))
        return one.shape == two.shape and bool(
            np.allclose(one, two, atol=tolerance * scale, rtol=0, equal_nan=True)
        )
    if isinstance(other, float | int) and not isinstance(other, bool):
        return own is not None and abs(own - other) <= tolerance * max(1.0, abs(other))
    return own == other


def differing(own, other, tolerance, path=""):
    """The places at which two answers differ."""
    if isinstance(other, dict) and own.keys() == other.keys():
        return [
            place for key in other for place in differing(own[key], other[key], tolerance, f"{path}.{key}")
        ]
    return [] if same(own, other, tolerance) else [(path, own, other)]


def test_a_slider_moves_by_keys_and_the_picture_is_the_decoders(open_offline, digits_page, digits_fit):
    """Pixel by pixel, from a file, without a network; nothing is asked for but the file."""
    fit = digits_fit[0]
    opened = open_offline(digits_page)
    info = opened.page.evaluate("lfm.app.info")
    (before, z), (after, moved) = opened.press_first_slider()
    assert moved[0] > z[0] and moved[1:] == z[1:] and not torch.equal(before, after)
    [view] = info["views"]
    order = [factor["entry"] - 1 for factor in info["factors"]]
    for pixels, point in ((before, z), (after, moved)):
        declared = torch.zeros(1, 4)
        declared[0, order] = torch.tensor(point, dtype=torch.float32)
        with torch.no_grad():
            mean = fit.model.factors["x"](declared).mean[0].reshape(8, 8)
        level = 255 * (mean - view["low"]) / (view["high"] - view["low"])
        ink = (255 - level).clamp(0, 255).round().long()
        assert (pixels - ink[..., None]).abs().max() <= 1
    assert opened.requests == [digits_page.as_uri()]


def test_a_row_that_is_pasted_is_encoded(open_offline, digits_page, digits_fit):
    fit, rows, _ = digits_fit
    opened = open_offline(digits_page)
    opened.page.locator("textarea").fill(", ".join(str(int(pixel)) for pixel in rows[11].tolist()))
    opened.page.get_by_role("button", name="Encode", exact=True).click()
    opened.until("lfm.app.store.state.subject && lfm.app.store.state.subject.row === null")
    order = [factor["entry"] - 1 for factor in opened.page.evaluate("lfm.app.info.factors")]
    mean = fit.posterior(rows[11:12]).mean[0][order]
    torch.testing.assert_close(torch.tensor(opened.state("z")), mean, atol=1e-4, rtol=0)


def test_the_answers_are_those_of_the_explorer(open_offline, digits_page, digits_fit):
    fit, rows, target = digits_fit
    answers = Answers(session_of(fit, rows, labels={"digit": target}))
    ask = open_offline(digits_page).page.evaluate
    info = ask("lfm.app.info")
    assert {**info, "notes": []} == {
        **json.loads(json.dumps(answers.session.info())),
        "notes": [],
        "seconds": info["seconds"],
    }
    points = np.frombuffer(answers.points(), "<f4").reshape(len(rows), -1)[:, :4]
    own = np.array(ask("lfm.app.points.latents.reduce((all, v) => (all.push(v), all), [])")).reshape(-1, 4)
    assert np.abs(own - points).max() <= 1e-4 * np.ptp(points)
    plane = np.array(ask("lfm.app.points.learned.reduce((all, v) => (all.push(v), all), [])")).reshape(-1, 2)
    assert np.abs(plane - answers.session.learned()).max() <= 1e-4 * np.ptp(plane)
    for place in (0, 299):
        assert not differing(ask(ASK, ["row", [place]]), answers.row(place), 2e-3)
    z = [0.3, -1.0, 0.5, 2.0]
    assert not differing(ask(ASK, ["decode", [{"z": z}]]), answers.decode({"z": z}), 2e-4)
    pixels = rows[7].tolist()
    given = {"views": [pixels], "covariates": {}}
    assert not differing(ask(ASK, ["encode", [given]]), answers.encode(given), 2e-3)
    chosen = [4, 8, 15, 16, 23]
    assert not differing(ask(ASK, ["summary", [chosen]]), answers.summary({"rows": chosen}), 1e-3)
    own, other = (text.splitlines() for text in (ask(ASK, ["csv", [chosen]]), answers.csv({"rows": chosen})))
    assert own[0] == other[0]
    for one, two in zip(own[1:], other[1:], strict=True):
        assert np.allclose(np.array(one.split(","), float), np.array(two.split(","), float), atol=1e-6)


def test_a_mixed_table_keeps_its_units_labels_gaps_and_text(open_offline, pets):
    session, path = pets
    answers, ask = Answers(session), open_offline(path).page.evaluate
    for place in (0, 3, 5):
        assert not differing(ask(ASK, ["row", [place]]), answers.row(place), 2e-3)
    z = [0.7, -0.4]
    assert not differing(ask(ASK, ["decode", [{"z": z}]]), answers.decode({"z": z}), 2e-4)
    given = {"views": [[5.5, 3, None]], "covariates": {}}
    assert not differing(ask(ASK, ["encode", [given]]), answers.encode(given), 2e-3)
    assert ask(ASK, ["csv", [[5, 2]]]) == answers.csv({"rows": [5, 2]})
    assert not differing(ask(ASK, ["summary", [[1, 2, 3]]]), answers.summary({"rows": [1, 2, 3]}), 1e-3)
    refused = """given => lfm.app.source.encode(given).then(() => "taken", (error) => error.message)"""
    assert "must be a whole number" in ask(refused, {"views": [[5.5, 2.5, 0]]})
    assert "must have at least one value" in ask(refused, {"views": [[None, None, None]]})
    assert "must have 3 columns; got 1" in ask(refused, {"views": [[1]]})


@pytest.mark.slow
def test_labels_and_covariates_are_read(open_offline, folder):
    fit, data = labelled()
    session = session_of(fit, data)
    answers = Answers(session)
    ask = open_offline(export_page(session, folder / "labelled.html")).page.evaluate
    point = {"z": [0.1, 0.2], "covariates": {"dose": 1.5, "arm": 1}, "labels": {"y": 2}}
    assert not differing(ask(ASK, ["decode", [point]]), answers.decode(point), 2e-4)
    assert not differing(ask(ASK, ["row", [4]]), answers.row(4), 2e-3)


@pytest.mark.slow
def test_attributes_are_read_edited_and_generated(open_offline, folder):
    """Edits as the explorer makes them; generated rows with the readings that are asked for, as spread as its own."""
    torch.manual_seed(0)
    z, weight = torch.randn(300, 3), torch.randn(3, 12)
    rows = z @ weight + 0.3 * torch.randn(300, 12)
    model = lfm.Model(z=lfm.StandardNormal(3), x=lfm.Gaussian(12, mean=lfm.Linear()))
    guide = lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(16)))
    fit = lfm.fit(model, rows, lfm.SVI(guide, epochs=40, learning_rate=1e-2), seed=0, progress=False)
    labels = {
        "big": z[:, 0] > 0.3,
        "tall": z[:, 1],
        "kind": np.array([*"abc"])[np.digitize(z[:, 2], [-0.5, 0.5])],
    }
    attributes = lfm.attributes.fit(fit, rows, labels)
    session = Session(fit, user_rows(fit, rows), {}, None, attributes)
    answers, ask = (
        Answers(session),
        open_offline(export_page(session, folder / "attributes.html")).page.evaluate,
    )
    point = [0.2, -0.3, 0.5]
    for targets in ({"tall": 1.0}, {"big": True, "kind": "c"}):
        edited = answers.edit({"z": point, "attributes": targets})
        own = ask(ASK, ["edit", [{"z": point}, targets]])
        # The path to the end has steps of its own, which stop within some hundredths of a deviation.
        assert not differing({**own, "views": []}, {**edited, "views": []}, 4e-2)
        assert not differing(own["views"], answers.decode({"z": own["z"]})["views"], 1e-3)
    assert not differing(ask(ASK, ["row", [3]])["attributes"], answers.row(3)["attributes"], 5e-3)
    asked = {"attributes": {"tall": 1.0, "kind": "b"}, "n": 64, "seed": 1}
    own, other = (
        np.array([row["z"] for row in a["rows"]])
        for a in (ask(ASK, ["generate", [asked]]), answers.generate(asked))
    )
    read = attributes.read(session.in_model_order(own))
    assert (read["tall"] - 1.0).abs().mean() < 0.25 and (read["kind"].argmax(1) == 1).double().mean() > 0.9
    # Means of 64 draws each: five of their standard errors, and a quarter of the deviation for what is approximate.
    assert (np.abs(own.mean(0) - other.mean(0)) < (5 * np.sqrt(2 / 64) + 0.25) * other.std(0)).all()
    assert (own.std(0) > 0.6 * other.std(0)).all() and (own.std(0) < 1.6 * other.std(0)).all()
    rare = {"attributes": {"tall": labels["tall"].max().item(), "kind": "a", "big": False}, "n": 4}
    assert "beyond the data" in ask(ASK, ["generate", [rare]])["message"]


def test_the_policy_names_the_scripts_that_are_there(digits_page):
    """A page that was changed does not run; nothing in it leads anywhere."""
    text = digits_page.read_text("utf-8")
    [policy] = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe" not in policy
    assert re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', text.split("</head>")[0]) == []
    assert "<script src" not in text and digits_page.stat().st_size < 2e6


def test_rows_beyond_the_room_are_left_out_and_the_page_says_so(digits_fit):
    fit, rows, _ = digits_fit
    session = session_of(fit, rows)
    assert page_rows(session, ArrayBlock(), ROOM).count == 300
    assert 0 < page_rows(session, ArrayBlock(), 4000).count < 300
    assert page_rows(session, ArrayBlock(), 0).count == 0


def test_the_text_of_many_cells_is_put_together_of_parts(pets, monkeypatch):
    """With one header, from a CSV file and from a frame."""
    from pyro_lfm.explorer.exported import page_rows as rows_of_page

    session = pets[0]
    framed = session_of(session.fit, session.rows.frame)
    monkeypatch.setattr(rows_of_page, "_CELLS", 40)
    for each in (session, framed):
        given = rows_of_page._csv(each, np.arange(80))
        assert given == Answers(each).csv({"rows": [*range(80)]})


def test_an_encoder_that_is_an_optimisation_is_left_out_in_words(open_offline, folder):
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Poisson(3, rate=lfm.MLP(4)))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.PerRow()))
    rows = torch.ones(20, 3)
    fit = lfm.fit(model, rows, lfm.SVI(guide, steps=2), seed=0, progress=False)
    opened = open_offline(lfm.explore(fit, rows, export=folder / "rows.html"))
    assert not opened.page.evaluate("lfm.app.source.can.has('encode')")
    [note] = opened.page.evaluate("lfm.app.info.notes")
    assert "encodes no new rows" in note and "parts=" not in note
    assert opened.page.evaluate(ASK, ["row", [2]])["original"] is not None


def test_wrong_paths_are_refused_before_anything_is_computed(digits_fit, tmp_path):
    fit, rows, _ = digits_fit
    wrong = {
        "must end in .html": tmp_path / "page.txt",
        "there is no folder": tmp_path / "none" / "page.html",
        "must be the path": 3,
    }
    for words, path in wrong.items():
        with pytest.raises(DataError, match=words):
            lfm.explore(fit, rows, export=path)
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        lfm.explore(fit, rows, export=tmp_path / "folder.html")


class Branches(torch.nn.Linear):
    def forward(self, z):
        return super().forward(z if z.sum() > 0 else -z)


def test_a_decoder_that_is_no_graph_is_refused_in_a_sentence_and_nothing_is_written(tmp_path):
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=Branches))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    fit = lfm.fit(model, torch.ones(20, 3), lfm.SVI(guide, steps=1, engine="eager"), seed=0, progress=False)
    with pytest.raises(DeclarationError, match="the decoder cannot be exported: .*looks at values") as caught:
        lfm.explore(fit, torch.ones(20, 3), export=tmp_path / "page.html")
    assert "parts=" not in str(caught.value) and not [*tmp_path.iterdir()]
