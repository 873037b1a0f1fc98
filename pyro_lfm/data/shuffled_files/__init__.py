"""Data files in random order, written with bounded memory: ``lfm.data.shuffle`` and the formats that it knows."""
