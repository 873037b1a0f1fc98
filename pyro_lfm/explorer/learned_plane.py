"""``learned_plane``: posterior means arranged in a plane, such that neighbours stay neighbours, for the map."""

from __future__ import annotations

import numpy as np

# Rows that are arranged by t-SNE; the others go to the mean of their nearest ones.
_ARRANGED, _NEAREST = 1200, 3
# Neighbours that t-SNE keeps together, and its steps.
_PERPLEXITY, _STEPS = 30, 500
# The fewest factors and rows for which a plane is of use.
LEAST_FACTORS, LEAST_ROWS = 3, 10


def learned_plane(points: np.ndarray) -> np.ndarray:
    """A plane for points (N, K): places (N, 2), float32, the same at every call.

    1,200 of the points, drawn with a fixed seed, are arranged by t-SNE. Every other point lies among the three nearest of
    them, with weights 1 / d². So time grows slowly with N: 60,000 rows take seconds.

    Source: van der Maaten (2014), "Accelerating t-SNE using tree-based algorithms".

    >>> places = learned_plane(np.random.default_rng(0).normal(size=(50, 4)))
    >>> places.shape, bool(np.isfinite(places).all())
    ((50, 2), True)
    """
    from sklearn.manifold import TSNE
    from sklearn.neighbors import NearestNeighbors

    chosen = np.random.default_rng(0).permutation(len(points))[:_ARRANGED]
    few = points[chosen].astype(np.float64)
    perplexity = min(_PERPLEXITY, (len(few) - 1) / 3)
    arranged = TSNE(
        perplexity=perplexity, init="pca", learning_rate="auto", max_iter=_STEPS, random_state=0
    ).fit_transform(few)
    if len(chosen) == len(points):
        places = np.empty_like(arranged)
        places[chosen] = arranged
    else:
        distances, nearest = NearestNeighbors(n_neighbors=_NEAREST).fit(few).kneighbors(points)
        weights = 1 / np.maximum(distances, 1e-9) ** 2
        weights /= weights.sum(1, keepdims=True)
        places = np.einsum("nk,nkd->nd", weights, arranged[nearest])
    return np.ascontiguousarray(places, dtype=np.float32)
