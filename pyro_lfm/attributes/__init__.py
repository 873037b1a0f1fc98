"""Named attributes in the latent space of a fit: how they are read, rows generated with them, rows edited."""

from pyro_lfm.attributes.labelled_fit import fit
from pyro_lfm.attributes.named_attributes import Attributes
from pyro_lfm.attributes.new_rows import edit, generate

__all__ = ["Attributes", "edit", "fit", "generate"]
