"""Drawn data sets: pictures made from factors whose values are known."""
