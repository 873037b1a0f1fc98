"""Declarations: immutable values that remember their arguments. Factors, sources, objectives and inferences are such."""

from pyro_lfm.declarations.part import Part, PartWithState, reserved
from pyro_lfm.declarations.pickling import LeftOut, importable
from pyro_lfm.declarations.writing import same, written

__all__ = ["Part", "PartWithState", "LeftOut", "importable", "reserved", "same", "written"]
