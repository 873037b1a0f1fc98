"""One variational autoencoder in several libraries, as a user writes it. ``experiments/against_peers.py`` starts each.

Each file holds the whole program: the model, the training loop where the library has none, and a call of ``turn`` with the
mean bound of each epoch, in nats per row. The lines of a program are those of its classes and functions.
"""
