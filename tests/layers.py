"""The layers of the package, lowest first."""

# In order: within a layer too, a part imports only those before it.
LAYERS = {
    "errors": 0, "warning_kinds": 0,
    "declarations": 0, "shapes": 0, "runtime": 0, "probes": 0, "schedules": 0, "storage": 0, "identity": 0,
    "data": 1, "distributions": 1, "exact": 1,
    "sources": 2, "factors": 2, "families": 2, "priors": 2, "programs": 2,
    "tables": 3, "closed_form": 3,
    "guides": 4,
    "objectives": 5,
    "formulas": 6, "inference": 6, "documents": 6,
    "evaluate": 7, "factor_analysis": 7, "callbacks": 7, "arviz_groups": 7, "attributes": 7,
    "comparison": 7, "testing": 7,
    "single_cell": 8, "plots": 8, "data_files": 8, "web": 8,
    "estimators": 9, "lightning": 9, "cli": 9, "serving": 9, "explorer": 9,
}  # fmt: skip

# Methods that lead to a higher layer import it in their body: {file: {class.method: layer}}.
UPWARD = {
    "inference/fitted.py": {
        "Fit.loadings": "factor_analysis",
        "Fit.plot": "plots",
        "Fit.to_arviz": "arviz_groups",
    },
    "inference/fit_state.py": {
        "FitState.declaration": "documents",
        "FitState.save": "documents",
        "FitState.files": "documents",
        "FitState.__getstate__": "documents",
    },
    "programs/model.py": {"Model.declaration": "documents"},
    "comparison/comparison_result.py": {"Comparison.plot": "plots"},
    "evaluate/calibration/coverage.py": {"Coverage.plot": "plots"},
    "evaluate/calibration/predictive.py": {"PredictiveCheck.plot": "plots"},
    "evaluate/calibration/ranks.py": {
        "SimulationBasedCalibration.plot": "plots",
        "VariationalCalibration.plot": "plots",
    },
    "evaluate/calibration/two_sample.py": {"TwoSample.plot": "plots"},
    "evaluate/decoding/variance_shares.py": {"VarianceExplained.plot": "plots"},
    "evaluate/decoding/jacobian.py": {"Loadings.plot": "plots"},
    "evaluate/decomposition/nats.py": {"Decomposition.plot": "plots"},
    "evaluate/diagnosis/report.py": {"Diagnosis.plot": "plots"},
    "evaluate/imputation/hidden_entries.py": {"ImputationScores.plot": "plots"},
    "evaluate/likelihood/estimate.py": {"LogLikelihood.plot": "plots"},
    "factor_analysis/factor_numbers.py": {"FactorNumbers.plot": "plots"},
    "factor_analysis/factor_solution.py": {"FactorSolution.plot": "plots"},
}
