"""The layers of the package, lowest first."""

# In order: within a layer too, a part imports only those before it.
LAYERS = {
    "errors": 0, "declarations": 0, "shapes": 0, "runtime": 0, "probes": 0, "schedules": 0, "documents": 0,
    "data": 1, "distributions": 1, "exact": 1,
    "sources": 2, "factors": 2, "families": 2, "priors": 2, "programs": 2,
    "tables": 3, "closed_form": 3,
    "guides": 4,
    "objectives": 5,
    "formulas": 6, "inference": 6,
    "evaluate": 7, "comparison": 7, "testing": 7,
    "plots": 8, "cli": 9,
}  # fmt: skip
