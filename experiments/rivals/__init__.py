"""Rivals in the benchmark of training. None of them imports pyro_lfm."""
