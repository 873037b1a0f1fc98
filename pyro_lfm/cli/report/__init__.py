"""The page of a run, for ``pyro-lfm report``: what was declared, what was learned, and what is doubtful."""
