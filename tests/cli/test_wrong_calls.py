"""Wrong calls: each exits with 2, prints one line on stderr that names the place and the remedy, and writes nothing."""

import json
import shutil
import socket
import sys
import tomllib

import numpy as np
import pandas as pd
import pytest
from cli_run import mixed_table

import pyro_lfm as lfm
from pyro_lfm.cli import main

pytest.importorskip("typer")

# The arguments of a call in a folder with animals.csv, animals.toml, runs/animals and the files below, and words that the
# message must have: the place, and the remedy.
CALLS = {
    # commands and options
    "fti animals.toml": ["fti", "did you mean 'fit'"],
    "fit animals.toml --epoch 3": ["--epoch", "--help"],
    "fit animals.toml --reusme": ["--reusme", "--resume"],
    "fit": ["Missing argument", "CONFIG"],
    "fit animals.toml more.toml": ["more.toml", "--help"],
    "fit animals.toml --seed one": ["--seed", "one"],
    "fit animals.toml --seed -1": ["--seed", "-1"],
    "fit animals.toml --seed 99999999999999999999999": ["--seed", "99999999999999999999999"],
    "impute runs/animals animals.csv": ["Missing option", "--out"],
    # CONFIG
    "fit animal.toml": ["animal.toml", "did you mean animals.toml?"],
    "fit no/such/folder/a.toml": ["a.toml", "no folder no/such/folder"],
    "fit animals.csv": ["animals.csv holds data", "pyro-lfm init animals.csv"],
    "fit runs/animals": ["is a folder", "runs/animals/declaration.toml"],
    "fit broken.toml": ["no TOML", "line 2"],
    "fit misspelt.toml": ["model.z", "'StandartNormal'", "did you mean StandardNormal?"],
    "fit binary.toml": ["binary.toml", "no text in UTF-8"],
    "fit empty.toml": ["sections [model]"],
    "fit newer.toml": ["version 99", "install a newer one"],
    "fit no_inference.toml --data animals.csv": ["does not say how to fit", "[inference]"],
    "fit no_model.toml --data animals.csv": ["declares no model", "[model]"],
    "fit no_data.toml": ["names no rows", "--data FILE"],
    "fit lost_data.toml": ["lost.csv", "--data FILE"],
    "fit notes.txt": ["notes.txt"],
    # --set
    "fit animals.toml --set model.z.event": ["PATH=VALUE", "model.z.event=4", "'model.z.event'"],
    "fit animals.toml --set model.zz.event=4": ["model has no 'zz'", "did you mean z?"],
    "fit animals.toml --set model.z.evnt=4": ["StandardNormal has no argument 'evnt'", "did you mean event?"],
    "fit animals.toml --set modle.z=4": ["modle", "did you mean model?"],
    "fit animals.toml --set inference.epochs=many": ["inference.epochs", "whole number", "'many'"],
    "fit animals.toml --set inference.epochs.x=3": ["inference.epochs is", "set inference.epochs itself"],
    "fit animals.toml --set inference.epochs=-3": ["inference", "-3"],
    "fit animals.toml --set =3": ["PATH=VALUE"],
    "fit animals.toml --set data.columns.length=continous": ["length", "continous", "continuous"],
    "fit animals.toml --set data.columns.lenght=count": ["lenght", "columns are length"],
    # --data and DATA
    "fit animals.toml --data animal.csv": ["no file animal.csv", "did you mean animals.csv?"],
    "fit animals.toml --data animals.toml": ["animals.toml is a declaration"],
    "fit animals.toml --data lacking.csv": ["length"],
    "fit animals.toml --data header.csv": ["header.csv", "no rows"],
    "init animal.csv": ["no file animal.csv", "did you mean animals.csv?"],
    "init animals.toml": ["animals.toml is a declaration", "DATA"],
    "init runs": ["runs", "no pictures"],
    "init notes.md": ["notes.md", ".csv"],
    "init words.npy": ["array of numbers", "words.npy"],
    "init nothing.csv": ["nothing.csv is empty"],
    "init gaps.npy": ["gaps.npy", "missing ones alone"],
    "fit plain.toml --data narrow.npy": ["narrow.npy", "(N, 3); got (5, 2)", "--set model.x.event=2"],
    "report runs/animals --data lacking.csv --out page.html": ["lacking.csv", "lacks length"],
    "init cut_off.npy": ["cut_off.npy"],
    "init animals.csv": ["animals.toml", "there already", "--force"],
    "init animals.csv --out animals.json": ["--out must end in .toml"],
    "evaluate runs/animals lacking.csv": ["lacks length", "add the columns"],
    "evaluate runs/animals new_label.csv": ["kind", "huge", "big"],
    "evaluate runs/animals words.csv": ["length", "numbers"],
    "evaluate runs/animals animals.toml": ["animals.toml is a declaration"],
    "evaluate runs/animals narrow.npy": ["narrow.npy", "length"],
    "evaluate runs/animals runs/animals": ["folder of a fit", "DATA"],
    "evaluate runs/animals animals.csv --share 0": ["--share"],
    "evaluate runs/animals animals.csv --draws 1": ["--draws"],
    # RUN
    "describe runs/animal": ["runs/animal", "runs/animals"],
    "report runs/animal": ["there is no run runs/animal", "runs/animals"],
    "report animals.toml": ["animals.toml is a declaration", "pyro-lfm fit animals.toml"],
    "report animals.csv": ["animals.csv is a file"],
    "evaluate runs animals.csv": ["runs holds no fit"],
    "evaluate newer_run animals.csv": ["format 99", "install a newer one"],
    "evaluate corrupted_run animals.csv": ["weights.safetensors", "SHA-256"],
    "evaluate cut_run animals.csv": ["no file weights.safetensors"],
    "serve newer_run": ["format 99", "install a newer one"],
    # --out, --resume
    "fit animals.toml": ["runs/animals holds a run already", "--resume", "--force"],
    "fit animals.toml --out animals.csv": ["animals.csv is a file", "name another"],
    "fit animals.toml --out papers": ["papers holds other files", "thesis.txt", "--out"],
    "fit animals.toml --out fresh --resume": ["no run in fresh", "leave --resume out"],
    "fit animals.toml --resume --set inference.epochs=60": ["has ended, after 60 epochs", "--set inference.epochs="],
    "fit animals.toml --resume --set inference.epochs=60 --set inference.learning_rate=0.5": [
        "belongs to another fit", "learning_rate",
    ],
    "fit animals.toml --resume --set inference.epochs=60 --seed 5": ["belongs to another fit", "seed"],
    "fit animals.toml --resume --set inference.epochs=60 --set model.z.event=3": ["belongs to another"],
    "fit animals.toml --resume --set inference.epochs=60 --data more.csv": ["belongs to another fit", "data"],
    "impute runs/animals animals.csv --out animals.csv": ["animals.csv", "there already", "--force"],
    "impute runs/animals animals.csv --out filled.xlsx": ["--out must end in", ".csv", ".xlsx"],
    "impute runs/animals animals.csv --out filled": ["--out must end in", "no ending"],
    "impute runs/animals animals.csv --out papers": ["--out must end in"],
    "impute runs/animals animals.csv --out no/folder/filled.csv": ["no folder no/folder", "make it"],
    "impute runs/animals animals.csv --out filled.npy": ["kind", ".csv"],
    "impute runs/animals animals.csv --out filled.csv --level 2": ["--level", "2"],
    "impute runs/animals animals.csv --out filled.csv --draws 0": ["--draws"],
    "impute runs/animals new_label.csv --out filled.csv": ["kind", "huge"],
    "transform runs/animals animals.csv --out z.h5ad": ["z.h5ad", "AnnData"],
    "transform runs/animals animals.csv --out z.npy --with-data": ["--with-data", ".csv"],
    "sample runs/animals -n -5 --out s.csv": ["-n", "-5"],
    "sample runs/animals -n many --out s.csv": ["-n", "many"],
    "sample runs/animals -n 5": ["Missing option", "--out"],
    # compare, describe, serve, export
    "compare animals.toml": ["two declarations or more"],
    "compare animals.toml animals.toml": ["animals.toml twice"],
    "compare animals.toml other_data.toml": ["one file of rows", "--data FILE"],
    "compare animals.toml copy.toml --held-out 1": ["--held-out", "1"],
    "describe runs/animals --set model.z.event=4": ["--set changes a declaration"],
    "explore runs/animals --port {port}": ["{port}", "8001"],
    "explore runs/animals --data animal.csv": ["no file animal.csv", "did you mean animals.csv?"],
    "explore runs/animals --data lacking.csv": ["lacking.csv", "lacks length"],
    "explore runs/animals --shape 8": ["--shape", "8x8", "'8'"],
    "explore runs/animals --attributes size": ["'size'", "columns of the data"],
    "serve runs/animals --port {port}": ["{port}", "8001"],
    "serve runs/animals --port 99999": ["port"],
    "export runs/animals --only everything": ["everything", "encode"],
    "fit animals.toml --device tpu --out fresh": ["device", "cpu", "'tpu'"],
    "fit animals.toml --parts parts.txt --out fresh": ["--parts must be a Python file"],
    "fit animals.toml --validation lacking.csv --out fresh": ["lacks length"],
}  # fmt: skip


@pytest.fixture(scope="module")
def place(work, tmp_path_factory):
    """A copy of the folder with files that are wrong in one way each."""
    folder = tmp_path_factory.mktemp("wrong") / "here"
    shutil.copytree(work, folder)
    frame, document = mixed_table(), tomllib.loads((folder / "animals.toml").read_text(encoding="utf-8"))
    frame.drop(columns="length").to_csv(folder / "lacking.csv", index=False)
    frame.head(0).to_csv(folder / "header.csv", index=False)
    pd.concat([frame, frame]).to_csv(folder / "more.csv", index=False)
    frame.assign(kind="huge").to_csv(folder / "new_label.csv", index=False)
    frame.assign(length="long").to_csv(folder / "words.csv", index=False)
    np.save(folder / "narrow.npy", np.zeros((5, 2)))
    np.save(folder / "gaps.npy", np.full((5, 3), np.nan))
    np.save(folder / "words.npy", np.array(["a", "b"]))
    (folder / "cut_off.npy").write_bytes((folder / "narrow.npy").read_bytes()[:40])
    texts = {
        "broken.toml": 'lfm = 1\n[model\nz = "StandardNormal(2)"',
        "misspelt.toml": '[model]\nz = "StandartNormal(2)"',
        "empty.toml": "lfm = 1",
        "newer.toml": 'lfm = 99\n[model]\nz = "StandardNormal(2)"',
        "no_model.toml": '[inference]\ntype = "EM"',
        "nothing.csv": "",
        "notes.txt": "a note",
        "notes.md": "a note",
        "parts.txt": "x = 1",
        "papers/thesis.txt": "a thesis",
        "copy.toml": (folder / "animals.toml").read_text(encoding="utf-8"),
    }
    plain = '[model]\nz = "StandardNormal(1)"\nx = "Gaussian(2, mean=Linear())"\n'
    texts["no_inference.toml"] = plain
    texts["plain.toml"] = plain.replace("(2,", "(3,") + '[inference]\ntype = "EM"\n'
    texts["no_data.toml"] = plain + '[inference]\ntype = "EM"\n'
    texts["lost_data.toml"] = plain + '[inference]\ntype = "EM"\n[data]\nfile = "lost.csv"\n'
    texts["other_data.toml"] = lfm.declare({**document, "data": {"file": str(folder / "more.csv")}}).toml()
    (folder / "papers").mkdir()
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for name in ("newer_run", "corrupted_run", "cut_run"):
        shutil.copytree(folder / "runs/animals", folder / name)
    entries = json.loads((folder / "newer_run/fit.json").read_text(encoding="utf-8"))
    (folder / "newer_run/fit.json").write_text(json.dumps({**entries, "format": 99}), encoding="utf-8")
    weights = bytearray((folder / "corrupted_run/weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "corrupted_run/weights.safetensors").write_bytes(weights)
    (folder / "cut_run/weights.safetensors").unlink()
    return folder


@pytest.fixture(scope="module")
def port():
    """A port in use."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield str(taken.getsockname()[1])


def contents(folder):
    """Every file of a folder with its bytes; the log of a run has a line for every call."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "fit.log")
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_call_names_the_place_and_the_remedy(call, place, port, monkeypatch, capsys):
    monkeypatch.chdir(place)
    before = contents(place)
    assert main(call.format(port=port).split()) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("pyro-lfm: ") and "warning:" not in line]
    assert not out and "Traceback" not in err and len(lines) >= 1, err
    for words in CALLS[call]:
        assert words.format(port=port).lower() in " ".join(lines).lower(), f"{words!r} is not in:\n{err}"
    after = contents(place)
    assert after.keys() == before.keys() and all(after[name] == before[name] for name in before)


@pytest.mark.parametrize(
    ("call", "package", "extra"),
    [
        ("init animals.csv --out new.toml", "pandas", "pyro_lfm[data]"),
        ("report runs/animals --out page.html", "matplotlib", "pyro_lfm[plot]"),
        ("export runs/animals --out model.onnx", "onnx", "pyro_lfm[export]"),
        ("serve runs/animals", "uvicorn", "pyro_lfm[app]"),
    ],
)
def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    call, package, extra, place, monkeypatch, capsys
):
    monkeypatch.chdir(place)
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(call.split()) == 2
    err = capsys.readouterr().err
    assert f"pip install '{extra}'" in err and err.count("\n") == 1


def test_there_are_many_of_them():
    assert len(CALLS) >= 80
