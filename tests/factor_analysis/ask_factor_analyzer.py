"""Asks factor_analyzer, in an environment of its own: ``python ask_factor_analyzer.py rows.npz answers.json``.

``rows.npz`` holds rows (N, D) by name, and the number of factors under ``name_factors``.
"""

import json
import sys
from pathlib import Path


def answers(rows, factors):
    """Maximum likelihood, and rotations of its loadings in rows of length one (Kaiser) and as they are."""
    import numpy as np
    from factor_analyzer import FactorAnalyzer, Rotator

    fitted = FactorAnalyzer(n_factors=factors, rotation=None, method="ml").fit(rows)
    loadings = fitted.loadings_
    result = {
        "loadings": loadings.tolist(),
        "communalities": fitted.get_communalities().tolist(),
        "uniquenesses": fitted.get_uniquenesses().tolist(),
        "variance": [part.tolist() for part in fitted.get_factor_variance()],
        "sufficiency": [float(number) for number in fitted.sufficiency(len(rows))],
        "scores": fitted.transform(rows[:5]).tolist(),
        "rotations": {},
    }
    lengths = np.sqrt((loadings**2).sum(1))[:, None]
    for method in ("varimax", "quartimax", "oblimin", "promax"):
        for kaiser in (True, False):
            # factor_analyzer itself normalises for varimax and promax alone.
            own = method in ("varimax", "promax")
            rotator = Rotator(
                method=method,
                normalize=kaiser,
                power=4,
                gamma=0,
                tol=1e-13 if own else 1e-10,
                max_iter=20_000,
            )
            unit = lengths if kaiser and not own else 1.0
            rotated = rotator.fit_transform(loadings / unit) * unit
            phi = None if rotator.phi_ is None else rotator.phi_.tolist()
            result["rotations"][f"{method}, kaiser={kaiser}"] = [rotated.tolist(), phi]
    return result


def main(source, target):
    import factor_analyzer
    import numpy as np
    import scipy
    import sklearn

    rows = np.load(source)
    names = [name for name in rows if not name.endswith("_factors")]
    given = {name: answers(rows[name], int(rows[f"{name}_factors"])) for name in names}
    versions = {package.__name__: package.__version__ for package in (np, scipy, sklearn)}
    # It says its version in the name of the folder beside it alone.
    (folder,) = Path(factor_analyzer.__file__).parents[1].glob("factor_analyzer-*.dist-info")
    versions["factor_analyzer"] = folder.name.removesuffix(".dist-info").partition("-")[2]
    text = json.dumps({"versions": versions, "answers": given})
    with open(target, "w", encoding="utf-8") as file:
        file.write(text + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
