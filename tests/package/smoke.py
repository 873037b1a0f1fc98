"""A first use of an installed pyro_lfm in an empty folder: ``python smoke.py core`` or ``python smoke.py extras``.

``build_and_try.py`` copies this file there and runs it. ``core`` needs no extra. ``extras`` needs those that
``build_and_try.EXTRAS`` lists, and uses the command line.
"""

import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import torch
from sklearn.datasets import load_iris

import pyro_lfm as lfm

PROGRAM = Path(sys.executable).with_name("pyro-lfm")
# The largest log-likelihood of two principal components on iris, nats per row (Tipping and Bishop 1999, equation 8).
PPCA_OF_IRIS = -2.699751868
READ = "import pyro_lfm, numpy as np; np.save('loaded.npy', pyro_lfm.load('run').posterior(np.load('iris.npy')).mean)"


def core() -> None:
    """Imports, fits by EM and by gradients, saves, and loads in another process."""
    check_place()
    rows = load_iris().data
    exact = lfm.Model(
        z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear(), covariance=lfm.Isotropic())
    )
    fit = lfm.fit(exact.double(), rows, lfm.EM(), seed=0, progress=False)
    reached = float(fit.log_likelihood(rows).mean())
    assert abs(reached - PPCA_OF_IRIS) < 1e-6, f"EM reached {reached}, not {PPCA_OF_IRIS}"

    deep = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(16)))
    guide = lfm.Guide(deep, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(16)))
    fit = lfm.fit(
        deep, rows.astype("float32"), lfm.SVI(guide, epochs=30, batch_size=32), seed=0, progress=False
    )
    assert fit.history[-1]["bound"] > fit.history[0]["bound"], "the bound did not rise"
    fit.save("run")
    np.save("iris.npy", rows.astype("float32"))
    subprocess.run([sys.executable, "-c", READ], check=True)
    same = torch.as_tensor(np.load("loaded.npy"))
    torch.testing.assert_close(same, fit.posterior(np.load("iris.npy")).mean.detach())

    asked = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True)
    sentence = "pyro-lfm: typer is not installed, which the command line needs: pip install 'pyro_lfm[cli]'\n"
    assert (asked.returncode, asked.stderr) == (2, sentence), asked


def extras() -> None:
    """The command line from a CSV with holes to a filled one, a report and a page that works from disk."""
    check_place()
    rows = load_iris().data.round(1).astype(str)
    rows[::7, 2] = ""
    Path("iris.csv").write_text("\n".join(["a,b,c,d", *(",".join(row) for row in rows)]) + "\n")
    said = command("--version")
    assert said == f"pyro_lfm {lfm.__version__}\n", said
    command("init", "iris.csv")
    command("fit", "iris.toml", "--set", "inference.epochs=20")
    command("evaluate", "runs/iris", "iris.csv")
    command("impute", "runs/iris", "iris.csv", "--out", "filled.csv")
    assert ",," not in Path("filled.csv").read_text(), "a hole was left"
    command("sample", "runs/iris", "-n", "5", "--out", "drawn.csv")
    assert len(Path("drawn.csv").read_text().splitlines()) == 6
    command("report", "runs/iris", "--out", "report.html")
    command("explore", "runs/iris", "--data", "iris.csv", "--export", "explorer.html")
    for page in ("report.html", "explorer.html"):
        text = Path(page).read_text(encoding="utf-8")
        assert len(text) > 20_000 and text.rstrip().endswith("</html>"), f"{page} is no whole page"
        assert 'src="http' not in text and "@import" not in text, f"{page} loads something"
    command("export", "runs/iris", "--out", "iris.onnx")
    assert Path("iris.encode.onnx").stat().st_size and Path("iris.decode.onnx").stat().st_size
    explorer = lfm.explore(lfm.load("runs/iris"), "iris.csv", port=0, block=False)
    with urlopen(explorer.url) as page:
        assert page.read().rstrip().endswith(b"</html>")
    explorer.close()


def check_place() -> None:
    """The library comes from the environment, and no repository is near."""
    place = Path(lfm.__file__).resolve()
    assert place.is_relative_to(Path(sys.prefix).resolve()), f"pyro_lfm was imported from {place}"
    assert not any((folder / ".git").exists() for folder in (Path.cwd(), *Path.cwd().parents))
    assert (place.parent / "py.typed").exists()


def command(*arguments: str) -> str:
    """What a command of the command line prints."""
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"pyro-lfm {' '.join(arguments)} ended with {done.returncode}: {done.stderr}"
    return done.stdout


if __name__ == "__main__":
    {"core": core, "extras": extras}[sys.argv[1]]()
