"""Pictures of fits, of evaluation results, of comparisons and of arrays.

Each function returns a ``matplotlib.figure.Figure`` of its own (``figure.savefig("name.png")``) and touches no global state
of matplotlib. The first argument is the thing that is drawn. It is called ``result`` where it is a result of
``lfm.evaluate`` or ``lfm.compare``, and such a result has the picture as its method ``plot`` too. {guide: ...} keeps one
colour per guide from picture to picture, as long as the guides come in the same order.
"""

from pyro_lfm.plots.calibration import (
    diagnosis,
    pareto_k,
    predictive_check,
    rank_curves,
    region_coverage,
    symmetry_curves,
    two_sample,
)
from pyro_lfm.plots.comparisons import bounds_by_time, differences
from pyro_lfm.plots.curves import bounds
from pyro_lfm.plots.density_curves import densities
from pyro_lfm.plots.gaps import bound_and_gap
from pyro_lfm.plots.intervals import interval_coverage
from pyro_lfm.plots.maps import latent_map
from pyro_lfm.plots.nats_by_entry import kl_by_entry
from pyro_lfm.plots.pictures_of_rows import gallery, prior_draws, reconstructions
from pyro_lfm.plots.posteriors import posterior_ellipses
from pyro_lfm.plots.scree_plot import scree
from pyro_lfm.plots.style import colours
from pyro_lfm.plots.variance_map import variance_explained
from pyro_lfm.plots.walks_along_factors import factor_walk
from pyro_lfm.plots.weights import loadings

__all__ = [
    "bound_and_gap",
    "bounds",
    "bounds_by_time",
    "colours",
    "densities",
    "diagnosis",
    "differences",
    "factor_walk",
    "gallery",
    "interval_coverage",
    "kl_by_entry",
    "latent_map",
    "loadings",
    "pareto_k",
    "posterior_ellipses",
    "predictive_check",
    "prior_draws",
    "rank_curves",
    "reconstructions",
    "scree",
    "region_coverage",
    "symmetry_curves",
    "two_sample",
    "variance_explained",
]
