"""All tests of a guide and its model together: simulated rows, replicates of the given rows, and the report."""
