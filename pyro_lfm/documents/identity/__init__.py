"""What a thing was made of, in words and digests: for whoever must notice that something else is at hand."""

from pyro_lfm.documents.identity.value_digests import differences, identity

__all__ = ["differences", "identity"]
