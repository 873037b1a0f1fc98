"""Declarations as text and fits as folders: ``lfm.declare``, ``lfm.part``, ``lfm.register``, ``lfm.load``."""
