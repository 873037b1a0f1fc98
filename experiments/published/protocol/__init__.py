"""What the scripts of ``experiments/published`` share: the record of a run, and log-likelihoods in resumable pieces."""
