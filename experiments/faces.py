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
import json
import platform
import time
import warnings
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import torch
from drawn_faces.face_model import declared, trained
from drawn_faces.face_reader import NAMES, FaceReader, to_unit
from drawn_faces.photographs import photographs
from drawn_faces.recovery import alignment, codes_file, common_faces, save_codes, scores
from drawn_faces.requests import Request, agrees, in_own_units, judged, judged_edit, requests
from drawn_faces.setting import Setting
from drawn_faces.tables import summary
from torch import Tensor

import pyro_lfm as lfm
from pyro_lfm import plots

SHAPE = (3, 32, 32)


def one_seed(
    seed: int, reader: FaceReader, setting: Setting, out: Path
) -> tuple[dict, lfm.Fit, lfm.attributes.Attributes]:
    faces = lfm.data.faces(n=setting.rows, seed=seed)
    unseen = lfm.data.faces(n=setting.edited, seed=1000 + seed)
    truth = to_unit(faces.factors)
    began = time.perf_counter()
    fit = trained(faces, seed, setting)
    seconds = time.perf_counter() - began

    known = reader(fit.reconstruct(unseen.x, draws=1))
    right = {name: float(agrees(known, to_unit(unseen.factors), name).float().mean()) for name in NAMES}
    by_labels = {}
    codes, common = ({"latents": fit.posterior(x).mean} for x in (unseen.x, common_faces()))
    for count in setting.labels:
        some = torch.arange(setting.rows) < count
        attributes = lfm.attributes.fit(fit, faces.x, labels_of(faces, some), seed=seed)
        few = [judged_generated(attributes, reader, truth, r, seed, setting) for r in requests(truth)[:20]]
        by_labels[str(count)] = {"alone": few, "scores": attributes.scores}
        for codes_of_rows in (codes, common):
            readings = attributes.read(codes_of_rows["latents"])
            codes_of_rows[f"readings, {count:,} labels"] = torch.stack([readings[name] for name in NAMES], 1)
    pairs = [
        judged_generated(attributes, reader, truth, r, seed, setting)
        for r in requests(truth)[20:][: setting.pairs]
    ]
    before = reader(unseen.x)
    edits = []
    for request in requests(truth)[:20][: setting.edits]:
        edited = lfm.attributes.edit(attributes, unseen.x, in_own_units(request), seed=seed)["x"]
        edits.append(judged_edit(before, reader(edited), request))
    save_codes(codes_file(out, seed), common)
    record = {
        "seed": seed,
        "seconds": seconds,
        "bound": fit.history[-1]["bound"],
        "read_in_reconstructions": right,
        "by_labels": by_labels,
        "pairs": pairs,
        "edits": edits,
        "recovered": scores(codes, unseen.factors),
    }
    return record, fit, attributes


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


def kept_or_made(seed: int, setting: Setting, out: Path) -> dict:
    """The record of a seed, from its file where an earlier run of the same setting has written one."""
    path = out / f"seed_{seed}.json"
    shown = json.loads(json.dumps(asdict(setting)))
    if path.exists() and codes_file(out, seed).exists():
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["setting"] == shown:
            return record
    reader = FaceReader(setting.reader_rows, setting.reader_epochs)
    drawn = lfm.data.faces(n=2000, seed=9999)
    read, truth = reader(drawn.x), to_unit(drawn.factors)
    record, fit, attributes = one_seed(seed, reader, setting, out)
    record["read_in_drawn_faces"] = {n: float(agrees(read, truth, n).float().mean()) for n in NAMES}
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
    aligned = alignment([codes_file(out, seed) for seed in seeds])
    text = summary(records, aligned, setting)
    if args.real:
        text += "\n" + photographs(out, setting.generated)
    (out / "table.md").write_text(text, encoding="utf-8")
    packages = {name: version(name) for name in ("pyro_lfm", "torch", "pyro-ppl", "numpy", "scikit-learn")}
    settings = {**vars(args), **asdict(setting)}
    results = {
        "settings": settings,
        "versions": {**packages, "python": platform.python_version()},
        "seeds": records,
        "alignment_over_seeds": aligned,
    }
    (out / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(f"{text}\nThe tables, every number and the pictures are in {out}/")


if __name__ == "__main__":
    main()
