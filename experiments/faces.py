"""Faces with chosen attributes: are they as asked, and does all that was not asked for stay as varied as in the data?

    python experiments/faces.py

A deep latent factor model learns from pictures of drawn faces alone: z ~ N(0, I), x | z ~ N(f(z), σ² I), f a network.
Labels then say where seven attributes lie among its latents (``lfm.attributes.fit``). 1,000 faces are generated for each
request: a number at the 10th, 50th or 90th percentile of the data, glasses or none, alone and in pairs. New faces
are edited. A network that was trained on drawn faces alone, never on the model's, reads the attributes of the results.

The bars: glasses are as asked in 95%, a number is within 0.15 of its range in 90%. The variance of the attributes that were
not asked for is at least 80% of the data's. An edit moves the asked attribute to its place in 90%, and every other
attribute by more than 0.15 of its range in at most 10%.

--real asks for light and darkness in 100 photographs of faces (scikit-image's lfw_subset), which are read from the pixels.

Writes table.md, results.json and pictures into the folder named by --out. A seed whose file is there already is not run
again, so that seeds can be run side by side: --seeds 1 --first-seed 2.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch
from readers.face_reader import NAMES, NEAR, NUMBERS, FaceReader, as_asked, to_unit
from torch import Tensor, nn

import pyro_lfm as lfm
from pyro_lfm import plots

SHAPE = (3, 32, 32)
PERCENTILES = (0.1, 0.5, 0.9)
# The bars of the docstring.
NUMBER_HITS, GLASSES_HITS, VARIANCE, EDIT_HITS, EDIT_DRIFT = 0.9, 0.95, 0.8, 0.9, 0.1

Request = dict[str, float]  # attributes on the reader's scale, from 0 to 1


@dataclass(frozen=True)
class Setting:
    """One configuration for all seeds."""

    rows: int = 10_000
    latent: int = 12
    hidden: int = 256
    components: int = 128
    component_rows: int = 4000
    epochs: int = 160
    batch_size: int = 100
    learning_rate: float = 2e-3
    generated: int = 1000
    edited: int = 1000
    labels: tuple[int, ...] = (
        100,
        300,
        1000,
        10_000,
    )  # rows whose labels are used; the last for all that follows
    pairs: int = 171  # of requests
    edits: int = 20
    reader_rows: int = 20_000
    reader_epochs: int = 12


class Components:
    """The first principal components of pictures x = m + V diag(s) c, c of variance one, as layers that are not trained.

    Networks between whitened components see the mouth and the eyes, which are few pixels, as large as the hair. With
    networks of the pixels themselves, 160 epochs left a mouth that was read wrongly in 13% of the faces.
    """

    def __init__(self, pictures: Tensor, count: int):
        self.mean = pictures.mean(0)
        centred = pictures - self.mean
        _, sizes, axes = torch.linalg.svd(centred, full_matrices=False)
        self.axes, self.deviations = axes[:count], sizes[:count] / len(pictures) ** 0.5

    def encoder(self, hidden: int) -> Callable[[int, int], nn.Module]:
        weight = self.axes / self.deviations[:, None]
        first = _frozen(weight, -weight @ self.mean)

        def of_components(inputs: int, outputs: int) -> nn.Module:
            return nn.Sequential(first, lfm.MLP(hidden, hidden)(len(self.axes), outputs))

        return of_components

    def decoder(self, hidden: int) -> Callable[[int, int], nn.Module]:
        last = _frozen((self.axes * self.deviations[:, None]).T.contiguous(), self.mean)

        def to_components(inputs: int, outputs: int) -> nn.Module:
            return nn.Sequential(lfm.MLP(hidden, hidden)(inputs, len(self.axes)), last)

        return to_components


def _frozen(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer.requires_grad_(False)


def declared(faces: lfm.data.Scenes, setting: Setting) -> tuple[lfm.Model, lfm.Guide]:
    components = Components(faces.x[: setting.component_rows], setting.components)
    noise = lfm.Isotropic(lfm.Learned(0.05))
    model = lfm.Model(
        z=lfm.StandardNormal(setting.latent),
        x=lfm.Gaussian(3072, mean=components.decoder(setting.hidden), covariance=noise),
    )
    return model, lfm.Guide(model, z=lfm.Gaussian(network=components.encoder(setting.hidden)))


def rate(progress: float) -> float:
    """The factor of the learning rate: constant, and falling to nearly 0 in the second half."""
    return min(1.0, (1.02 - progress) / 0.5)


def trained(faces: lfm.data.Scenes, seed: int, setting: Setting) -> lfm.Fit:
    model, guide = declared(faces, setting)
    inference = lfm.SVI(
        guide,
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        learning_rate=setting.learning_rate,
        schedule=rate,
    )
    return lfm.fit(model, faces.x, inference, seed=seed, progress=False)


def in_own_units(request: Request) -> dict[str, float | bool]:
    """A request as ``lfm.attributes`` takes it."""
    units = {"mouth": lambda value: 2 * value - 1, "glasses": lambda value: value > 0.5}
    return {name: units.get(name, float)(value) for name, value in request.items()}


def requests(truth: Tensor) -> list[Request]:
    """Every attribute at its percentiles, with and without glasses, alone and in pairs."""
    alone: list[Request] = [
        {name: float(truth[:, NAMES.index(name)].quantile(share))}
        for name in NUMBERS
        for share in PERCENTILES
    ]
    alone += [{"glasses": 0.0}, {"glasses": 1.0}]
    pairs = [a | b for a, b in itertools.combinations(alone, 2) if a.keys() != b.keys()]
    return alone + pairs


def judged(read: Tensor, truth: Tensor, request: Request) -> dict:
    """How many faces are as asked, and how much of the data's variance the other attributes have."""
    hits = {name: float(as_asked(read, name, value).float().mean()) for name, value in request.items()}
    others = [name for name in NAMES if name not in request]
    spread = (read.var(0) / truth.var(0)).tolist()
    return {"request": request, "hits": hits, "variance": {n: spread[NAMES.index(n)] for n in others}}


def judged_edit(before: Tensor, after: Tensor, request: Request) -> dict:
    """How many edited faces are as asked, and how many moved elsewhere."""
    ((name, value),) = request.items()
    drift = ((after - before).abs() > NEAR).float().mean(0).tolist()
    others = [other for other in NAMES if other != name]
    return {
        "request": request,
        "hit": float(as_asked(after, name, value).float().mean()),
        "drift": {other: drift[NAMES.index(other)] for other in others},
    }


def one_seed(
    seed: int, reader: FaceReader, setting: Setting
) -> tuple[dict, lfm.Fit, lfm.attributes.Attributes]:
    faces = lfm.data.faces(n=setting.rows, seed=seed)
    unseen = lfm.data.faces(n=setting.edited, seed=1000 + seed)
    truth = to_unit(faces.factors)
    began = time.perf_counter()
    fit = trained(faces, seed, setting)
    seconds = time.perf_counter() - began

    known = reader(fit.reconstruct(unseen.x, draws=1))
    right = {name: float(_agrees(known, to_unit(unseen.factors), name).float().mean()) for name in NAMES}
    by_labels, codes = {}, {"latents": fit.posterior(unseen.x).mean}
    for count in setting.labels:
        some = torch.arange(setting.rows) < count
        attributes = lfm.attributes.fit(fit, faces.x, labels_of(faces, some), seed=seed)
        few = [judged_generated(attributes, reader, truth, r, seed, setting) for r in requests(truth)[:20]]
        by_labels[str(count)] = {"alone": few, "scores": attributes.scores}
        readings = attributes.read(codes["latents"])
        codes[f"readings, {count} labels"] = torch.stack([readings[name] for name in NAMES], 1)
    pairs = [
        judged_generated(attributes, reader, truth, r, seed, setting)
        for r in requests(truth)[20:][: setting.pairs]
    ]
    before = reader(unseen.x)
    edits = []
    for request in requests(truth)[:20][: setting.edits]:
        edited = lfm.attributes.edit(attributes, unseen.x, in_own_units(request), seed=seed)["x"]
        edits.append(judged_edit(before, reader(edited), request))
    recovered = {}
    for name, code in codes.items():
        scores = lfm.evaluate.representation.disentanglement_of_codes(code, unseen.factors, seed=0)
        recovered[name] = {"mig": scores.mig, "dci": asdict_numbers(scores.dci), "sap": scores.sap}
    record = {
        "seed": seed,
        "seconds": seconds,
        "bound": fit.history[-1]["bound"],
        "read_in_reconstructions": right,
        "by_labels": by_labels,
        "pairs": pairs,
        "edits": edits,
        "recovered": recovered,
    }
    return record, fit, attributes


def _agrees(read: Tensor, truth: Tensor, name: str) -> Tensor:
    column = NAMES.index(name)
    if name == "glasses":
        return (read[:, column] > 0.5) == (truth[:, column] > 0.5)
    return (read[:, column] - truth[:, column]).abs() <= NEAR


def asdict_numbers(scores: lfm.evaluate.representation.DCI) -> dict[str, float]:
    return {
        name: float(getattr(scores, name)) for name in ("disentanglement", "completeness", "informativeness")
    }


def labels_of(faces: lfm.data.Scenes, known: Tensor) -> dict[str, Tensor]:
    """The attributes of the known rows, NaN elsewhere."""
    return {name: faces.factors[name].float().where(known, torch.nan) for name in NAMES}


def judged_generated(
    attributes: lfm.attributes.Attributes,
    reader: FaceReader,
    truth: Tensor,
    request: Request,
    seed: int,
    setting: Setting,
) -> dict:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # requests of few labels: the table says how they end
        drawn = lfm.attributes.generate(attributes, in_own_units(request), setting.generated, seed=seed)
    return judged(reader(drawn["x"]), truth, request)


def summary(records: list[dict], setting: Setting) -> str:
    """The tables of all seeds: generated alone and in pairs, variance kept, edits, few labels, recovered factors."""
    most = str(setting.labels[-1])
    alone = [judged for record in records for judged in record["by_labels"][most]["alone"]]
    pairs = [judged for record in records for judged in record["pairs"]]
    edits = [judged for record in records for judged in record["edits"]]
    lines = [
        f"# Faces with chosen attributes: {len(records)} seeds, {setting.generated:,} faces for each request",
        "",
        "| attribute | read: drawn | read: reconstructed | alone, as asked: worst | mean "
        "| in pairs: worst | mean | variance kept: worst | mean | edited: worst | mean | moved by others: worst | mean |",
        "| --- |" + " ---: |" * 12,
    ]
    for name in NAMES:
        cells = [
            [record["read_in_drawn_faces"][name] for record in records],
            [record["read_in_reconstructions"][name] for record in records],
            [judged["hits"][name] for judged in alone if name in judged["hits"]],
            [judged["hits"][name] for judged in pairs if name in judged["hits"]],
            [judged["variance"][name] for judged in alone + pairs if name in judged["variance"]],
            [judged["hit"] for judged in edits if name in judged["request"]],
            [judged["drift"][name] for judged in edits if name in judged["drift"]],
        ]
        worst = [min, min, min, min, min, min, max]
        text = [f"{min(cells[0]):.1%}", f"{min(cells[1]):.1%}"]
        for values, choose in zip(cells[2:], worst[2:], strict=True):
            text += [f"{choose(values):.1%}", f"{sum(values) / len(values):.1%}"] if values else ["–", "–"]
        lines.append(f"| {name} | " + " | ".join(text) + " |")
    lines += ["", *_bars(alone, pairs, edits), "", *_few_labels(records), "", *_recovered(records)]
    return "\n".join(lines) + "\n"


def _bars(alone: list[dict], pairs: list[dict], edits: list[dict]) -> list[str]:
    """How many requests meet the bars."""

    def bar(name: str) -> float:
        return GLASSES_HITS if name == "glasses" else NUMBER_HITS

    def met(judged: dict) -> bool:
        return all(hit >= bar(name) for name, hit in judged["hits"].items())

    def varied(judged: dict) -> bool:
        return min(judged["variance"].values()) >= VARIANCE

    def edited(judged: dict) -> bool:
        return judged["hit"] >= EDIT_HITS and max(judged["drift"].values()) <= EDIT_DRIFT

    lines = ["| | requests | as asked | variance kept | both |", "| --- | ---: | ---: | ---: | ---: |"]
    for name, some in (("alone", alone), ("in pairs", pairs)):
        counts = [sum(map(test, some)) for test in (met, varied, lambda one: met(one) and varied(one))]
        lines.append(f"| {name} | {len(some)} | " + " | ".join(map(str, counts)) + " |")
    return [*lines, f"| edits | {len(edits)} | {sum(map(edited, edits))} | | |"]


def _few_labels(records: list[dict]) -> list[str]:
    """The share of requests alone that meet all bars, by the number of labelled rows."""
    counts = list(records[0]["by_labels"])
    lines = ["| labelled rows | as asked: mean over attributes | worst attribute |", "| ---: | ---: | ---: |"]
    for count in counts:
        hits: dict[str, list[float]] = {name: [] for name in NAMES}
        for record in records:
            for judged in record["by_labels"][count]["alone"]:
                for name, hit in judged["hits"].items():
                    hits[name].append(hit)
        means = {name: sum(values) / len(values) for name, values in hits.items()}
        worst = min(means, key=lambda name: means[name])
        lines.append(
            f"| {int(count):,} | {sum(means.values()) / len(means):.1%} | {worst}, {means[worst]:.1%} |"
        )
    return lines


def _recovered(records: list[dict]) -> list[str]:
    """How the codes relate to the attributes from which the faces were drawn."""
    lines = [
        "| codes | MIG | SAP | DCI disentanglement | DCI completeness |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name in records[0]["recovered"]:
        each = [record["recovered"][name] for record in records]
        numbers = [
            [scores["mig"] for scores in each],
            [scores["sap"] for scores in each],
            [scores["dci"]["disentanglement"] for scores in each],
            [scores["dci"]["completeness"] for scores in each],
        ]
        lines.append(f"| {name} | " + " | ".join(f"{sum(v) / len(v):.2f}" for v in numbers) + " |")
    return lines


def pictures(fit: lfm.Fit, attributes: lfm.attributes.Attributes, out: Path, seed: int) -> None:
    """The grid of requests that opens the README, and edits of three faces that the model has not seen."""
    asked: dict[str, dict[str, float | bool]] = {
        "smiling, with glasses": {"mouth": 0.8, "glasses": True},
        "long fair hair": {"hair_length": 0.9, "hair_colour": 0.95},
        "short dark hair, frowning": {"hair_length": 0.1, "hair_colour": 0.1, "mouth": -0.8},
        "dark skin, blue eyes": {"skin_tone": 0.1, "eye_colour": 0.95},
    }
    rows = [lfm.attributes.generate(attributes, wish, 12, seed=seed)["x"] for wish in asked.values()]
    by_wish = dict(zip(asked, rows, strict=True))
    plots.prior_draws(by_wish, shape=SHAPE, title="Generated with chosen attributes").savefig(
        out / f"chosen_{seed}.png"
    )
    faces = lfm.data.faces(n=8, seed=77).x
    edits: dict[str, dict[str, float | bool]] = {
        "smile": {"mouth": 0.9},
        "glasses": {"glasses": True},
        "long hair": {"hair_length": 0.95},
        "fair hair": {"hair_colour": 0.95},
    }
    edited = {
        name: lfm.attributes.edit(attributes, faces, wish, seed=seed)["x"] for name, wish in edits.items()
    }
    plots.reconstructions(
        faces, edited, shape=SHAPE, title="One attribute edited, the rest as it was"
    ).savefig(out / f"edited_{seed}.png")


def light(pictures: Tensor) -> dict[str, Tensor]:
    """Attributes of photographs (N, 25, 25) that can be read from the pixels."""
    return {
        "brightness": pictures.mean((1, 2)),
        "light from the left": pictures[:, :, :12].mean((1, 2)) - pictures[:, :, 13:].mean((1, 2)),
        "dark eyes": pictures[:, 13:].mean((1, 2)) - pictures[:, 6:11].mean((1, 2)),
    }


def photographs(out: Path, n: int) -> str:
    """100 photographs: factor analysis by EM, then faces with chosen light. Returns a table."""
    from skimage.data import lfw_subset

    faces = torch.from_numpy(lfw_subset()[:100]).float()
    torch.manual_seed(0)
    pixels = lfm.Gaussian(625, mean=lfm.Linear(), covariance=lfm.Isotropic())
    fit = lfm.fit(
        lfm.Model(z=lfm.StandardNormal(20), x=pixels), faces.flatten(1), lfm.EM(), seed=0, progress=False
    )
    truth = light(faces)
    attributes = lfm.attributes.fit(fit, faces.flatten(1), truth, seed=0)
    lines = [
        "# 100 photographs",
        "",
        f"{attributes!r}".replace("\n", "  \n"),
        "",
        "| attribute | percentile | as asked | variance of the others kept, least |",
        "| --- | ---: | ---: | ---: |",
    ]
    shown: dict[str, Tensor] = {}
    for name, values in truth.items():
        width = float(values.max() - values.min())
        for share in PERCENTILES:
            value = float(values.quantile(share))
            drawn = lfm.attributes.generate(attributes, {name: value}, n, seed=0)["x"]
            read = light(drawn.reshape(-1, 25, 25))
            hit = float(((read[name] - value).abs() <= NEAR * width).float().mean())
            kept = min(float(read[other].var() / truth[other].var()) for other in truth if other != name)
            lines.append(f"| {name} | {share:.0%} | {hit:.1%} | {kept:.0%} |")
            if share != 0.5:
                shown[f"{name} at {share:.0%}"] = drawn[:10]
    inverted = {name: 1 - drawn for name, drawn in shown.items()}  # one channel is drawn as ink on paper
    plots.prior_draws(inverted, shape=(25, 25), columns=10, title="Learned from 100 photographs").savefig(
        out / "photographs.png"
    )
    return "\n".join(lines) + "\n"


def kept_or_made(seed: int, setting: Setting, out: Path) -> dict:
    """The record of a seed, from its file where an earlier run of the same setting has written one."""
    path = out / f"seed_{seed}.json"
    shown = json.loads(json.dumps(asdict(setting)))
    if path.exists():
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["setting"] == shown:
            return record
    reader = FaceReader(setting.reader_rows, setting.reader_epochs)
    drawn = lfm.data.faces(n=2000, seed=9999)
    read, truth = reader(drawn.x), to_unit(drawn.factors)
    record, fit, attributes = one_seed(seed, reader, setting)
    record["read_in_drawn_faces"] = {n: float(_agrees(read, truth, n).float().mean()) for n in NAMES}
    record["setting"] = shown
    print(
        f"seed {seed}: bound {record['bound']:.1f}, {record['seconds']:.0f} s\n{attributes!r}\n", flush=True
    )
    pictures(fit, attributes, out, seed)
    path.write_text(json.dumps(record, indent=1), encoding="utf-8")
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--seeds", type=int, default=3, help="number of seeds, each a data set and a start of its own"
    )
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--real", action="store_true", help="100 photographs too; needs scikit-image")
    parser.add_argument("--quick", action="store_true", help="few rows and epochs: to see that all works")
    parser.add_argument("--out", default="runs/faces", help="folder of the results")
    args = parser.parse_args()
    setting = Setting()
    if args.quick:
        args.seeds = 1
        setting = replace(
            setting, rows=300, hidden=32, components=32, epochs=2, generated=20, edited=300, labels=(300,), pairs=3, edits=2,
            reader_rows=256, reader_epochs=1,
        )  # fmt: skip
    # Pixels of the wall hardly vary.
    warnings.simplefilter("ignore", lfm.PrecisionWarning)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    print(lfm.describe(*declared(lfm.data.faces(n=300), setting)), end="\n\n")
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    records = [kept_or_made(seed, setting, out) for seed in seeds]
    text = summary(records, setting)
    if args.real:
        text += "\n" + photographs(out, setting.generated)
    (out / "table.md").write_text(text, encoding="utf-8")
    packages = {name: version(name) for name in ("pyro_lfm", "torch", "pyro-ppl", "numpy", "scikit-learn")}
    settings = {**vars(args), **asdict(setting)}
    results = {
        "settings": settings,
        "versions": {**packages, "python": platform.python_version()},
        "seeds": records,
    }
    (out / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(f"{text}\nThe tables, every number and the pictures are in {out}/")


if __name__ == "__main__":
    main()
