"""Files that are written whole, and digests of what a fit was made of."""
