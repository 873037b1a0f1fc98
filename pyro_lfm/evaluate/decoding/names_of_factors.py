"""The names of factors, one for each real entry of the latents of a row; every picture and table uses them."""

from __future__ import annotations

from collections.abc import Sequence

from pyro_lfm.programs.model import AnyModel


def entry_names(name: str, size: int) -> list[str]:
    """The names of the entries of a variable.

    >>> entry_names("z", 2), entry_names("z", 1)
    (['z_1', 'z_2'], ['z'])
    """
    return [name] if size == 1 else [f"{name}_{k + 1}" for k in range(size)]


def discrete_latents(model: AnyModel) -> list[str]:
    """The latents of a row that have labels or whole numbers as their values."""
    return [n for n, latent in model.latents.items() if latent.per_row and latent.support.is_discrete]


def real_latents(model: AnyModel) -> dict[str, int]:
    """{latent of a row with real entries: its number of entries}, in the order of the model."""
    rows = {name: latent for name, latent in model.latents.items() if latent.per_row}
    return {n: latent.shape.numel() for n, latent in rows.items() if not latent.support.is_discrete}


def factor_names(model: AnyModel) -> list[str]:
    """The names of the K entries of all real latents of a row side by side, in every picture and table: z_1, z_2, ...

    >>> from pyro_lfm import Gaussian, MLP, Model, StandardNormal
    >>> factor_names(Model(z=StandardNormal(2), w=StandardNormal(1), x=Gaussian(4, mean=MLP(8))))
    ['z_1', 'z_2', 'w']
    """
    return [entry for name, size in real_latents(model).items() for entry in entry_names(name, size)]


def in_order(names: Sequence[str], order: Sequence[str]) -> list[int]:
    """The places of some names, those that an order has first, in its order.

    >>> in_order(["a", "b", "c"], ["c", "x", "b"])
    [2, 1, 0]
    """
    places = {name: place for place, name in enumerate(order)}
    return sorted(range(len(names)), key=lambda k: (places.get(names[k], len(order)), k))
