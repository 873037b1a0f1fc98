"""Declarations: immutable values that remember their arguments. Factors, sources, objectives and inferences are such."""

from pyro_lfm.declarations.declaration import Declaration, DeclarationWithParts, reserved
from pyro_lfm.declarations.pickling import LeftOut, importable
from pyro_lfm.declarations.writing import same, written

__all__ = ["Declaration", "DeclarationWithParts", "LeftOut", "importable", "reserved", "same", "written"]
