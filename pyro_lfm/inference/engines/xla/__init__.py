"""Training by XLA: the recorded step in a loop of one program, many steps a call, with Adam inside."""
