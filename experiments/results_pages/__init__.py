"""The tables of docs/results, made from stored figures: ``python experiments/results_pages/write.py`` writes them.

A table of a page stands between the comments ``<!-- figures: NAME -->`` and ``<!-- end of figures -->``. A test makes each
table again and compares.
"""
