"""The order of rows in training, and how rows are read in it: ``Feed`` goes through an epoch by these parts."""
