"""Remedies for users who know the parameters of a family from elsewhere, such as ``probs`` of torch's distributions."""

OF_ODDS = {
    "probs": "logits=, ln(p / (1 − p)) of a probability p, as in logits=lfm.Fixed(torch.tensor(0.2).logit())"
}
OF_PROBABILITIES = {
    "probs": "logits=, the logarithms of the probabilities, as in logits=lfm.Fixed(torch.tensor([0.2, 0.8]).log())"
}
_VARIANCES = (
    "covariance=, which holds variances, as in covariance=lfm.Diagonal(lfm.Fixed(0.25)) for the scale 0.5"
)
OF_COVARIANCES = {
    "loc": "mean=",
    **dict.fromkeys(
        ("scale", "std", "sigma", "variance", "var", "covariance_matrix", "scale_tril"), _VARIANCES
    ),
}
OF_LOCATIONS = {"mean": "loc=", **dict.fromkeys(("std", "sigma"), "scale=")}
