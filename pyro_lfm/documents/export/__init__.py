"""Export: the functions of a fitted model as graphs in ONNX or .pt2 files, which run without this library."""
