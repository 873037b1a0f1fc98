"""Drawn data sets: pictures of factors whose values are known, to compare with learned factors."""
