"""Files: how they are written whole, and digests of the things that they describe."""
