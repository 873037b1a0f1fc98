"""The tables of README and docs, made from stored figures: ``python experiments/results_pages/write.py`` writes them.

A table of a page stands between the comments ``<!-- figures: NAME -->`` and ``<!-- end of figures -->``. A number in a
sentence is followed by the comment ``<!-- figure: RECORD / TABLE / ROW / COLUMN -->`` or ``<!-- figure: RECORD / NAME -->``.
A test makes each table again, looks each number up, and compares.
"""
