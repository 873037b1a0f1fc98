"""Rivals in the benchmarks of training and of imputation. None of them imports pyro_lfm."""
