"""What ``LatentImputer`` is made of: columns as numbers, scales, factor mixtures, and their validated combination."""
