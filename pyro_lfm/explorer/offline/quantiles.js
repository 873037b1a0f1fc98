// Quantiles of the families that a graph has no operators for, and the functions of mathematics that they need.
// lfm.exportedSource makes the intervals of decoded entries by them.
(function (lfm) {
  "use strict";

  // Lanczos (1964), with the coefficients of Godfrey for g = 7.
  const LANCZOS = [
    0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
    12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
  ];

  function logGamma(x) {
    if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x);
    let sum = LANCZOS[0];
    for (let k = 1; k < LANCZOS.length; k++) sum += LANCZOS[k] / (x - 1 + k);
    const t = x + 6.5;
    return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(t) - t + Math.log(sum);
  }

  /** A continued fraction b0 + a1 / (b1 + a2 / (b2 + ...)) by the method of Lentz, modified; term(k) gives [a_k, b_k]. */
  function fraction(start, term) {
    const tiny = 1e-300, safe = (value) => (Math.abs(value) < tiny ? tiny : value);
    let result = safe(start), c = result, d = 0;
    for (let k = 1; k < 100000; k++) {
      const [a, b] = term(k);
      d = 1 / safe(b + a * d);
      c = safe(b + a / c);
      result *= c * d;
      if (Math.abs(c * d - 1) < 1e-15) break;
    }
    return result;
  }

  /** P(a, x), the regularised lower incomplete gamma function: its series, or 1 - Q by its continued fraction. */
  function gammaP(a, x) {
    if (!(x > 0)) return x === 0 ? 0 : NaN;
    const front = Math.exp(a * Math.log(x) - x - logGamma(a));
    if (x < a + 1) {
      let term = 1 / a, sum = term;
      for (let n = 1; Math.abs(term) > 1e-16 * Math.abs(sum) && n < 100000; n++) {
        term *= x / (a + n);
        sum += term;
      }
      return Math.min(1, front * sum);
    }
    return 1 - front / fraction(x + 1 - a, (k) => [-k * (k - a), x + 2 * k + 1 - a]);
  }

  /** I_x(a, b), the regularised incomplete beta function, by its continued fraction. */
  function betaI(x, a, b) {
    if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
    if (x > (a + 1) / (a + b + 2)) return 1 - betaI(1 - x, b, a);
    const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x)) / a;
    const step = (k) => {
      const m = Math.floor(k / 2);
      if (k % 2 === 0) return (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
      return (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    };
    return front / fraction(1, (k) => [step(k), 1]);
  }

  /** The x between two ends at which a rising function reaches a level. */
  function rising(cdf, level, low, high) {
    for (let k = 0; k < 80 && high - low > 1e-12 * Math.max(Math.abs(low), Math.abs(high)); k++) {
      const middle = (low + high) / 2;
      if (cdf(middle) < level) low = middle;
      else high = middle;
    }
    return (low + high) / 2;
  }

  /** The same without an upper end, for positive x. */
  function positive(cdf, level, guess) {
    let high = Math.max(guess, 1e-300);
    while (cdf(high) < level && high < 1e300) high *= 2;
    return rising(cdf, level, 0, high);
  }

  /** The least whole number of at least 0 at which a cdf reaches a level; Cantelli's inequality bounds it. */
  function whole(cdf, level, mean, deviation) {
    let low = Math.max(-1, Math.floor(mean - deviation * Math.sqrt((1 - level) / level)) - 1);
    let high = Math.ceil(mean + deviation * Math.sqrt(level / (1 - level))) + 1;
    while (high - low > 1 && (low + high) / 2 !== low) {
      const middle = Math.floor((low + high) / 2);
      if (cdf(middle) < level) low = middle;
      else high = middle;
    }
    return Math.max(high, 0);
  }

  const normalCdf = (x) => 0.5 * (1 + lfm.erf(x / Math.SQRT2));
  const normals = new Map();

  /** The quantile of the standard normal distribution; the levels of intervals are few, and each is kept. */
  function normal(level) {
    if (!normals.has(level)) normals.set(level, rising(normalCdf, level, -9, 9));
    return normals.get(level);
  }
  const sigmoid = (x) => 1 / (1 + Math.exp(-x));

  function studentT(level, { df, loc, scale }) {
    const upper = Math.max(level, 1 - level);
    const cdf = (t) => 1 - 0.5 * betaI(df / (df + t * t), df / 2, 0.5);
    const t = upper === 0.5 ? 0 : positive(cdf, upper, 1);
    return loc + scale * (level < 0.5 ? -t : t);
  }

  function negativeBinomial(level, { total_count: r, logits }) {
    const failure = sigmoid(-logits), mean = r * Math.exp(logits);
    return whole((x) => betaI(failure, r, x + 1), level, mean, Math.sqrt(mean / failure));
  }

  function binomial(level, { total_count: n, logits }) {
    const p = sigmoid(logits), cdf = (x) => (x >= n ? 1 : x < 0 ? 0 : betaI(1 - p, n - x, x + 1));
    return Math.min(n, whole(cdf, level, n * p, Math.sqrt(n * p * (1 - p))));
  }

  const poisson = (level, { rate }) =>
    rate > 0 ? whole((x) => (x < 0 ? 0 : 1 - gammaP(x + 1, rate)), level, rate, Math.sqrt(rate)) : 0;

  /** Of counts that are 0 with another probability: the level that is left to the counts. */
  const zeroInflated = (counts) => (level, parameters) => {
    const zero = sigmoid(parameters.gate_logits), left = (level - zero) / (1 - zero);
    return left > 0 ? counts(Math.min(left, 1 - 1e-12), parameters) : 0;
  };

  const mixture = (cdf, quantile) => (level, { weights, loc, scale }) => {
    const ends = loc.map((centre, c) => centre + scale[c] * quantile(level));
    const whole = (x) => weights.reduce((sum, weight, c) => sum + weight * cdf((x - loc[c]) / scale[c]), 0);
    return rising(whole, level, Math.min(...ends), Math.max(...ends));
  };

  /** {family: (level, parameters) => x}; the parameters of a mixture are lists. */
  lfm.quantiles = {
    Normal: (level, { mean, deviation }) => mean + deviation * normal(level),
    Gamma: (level, { concentration: a, rate }) => positive((x) => gammaP(a, x), level, a) / rate,
    Beta: (level, { concentration1: a, concentration0: b }) => rising((x) => betaI(x, a, b), level, 0, 1),
    StudentT: studentT,
    Poisson: poisson,
    NegativeBinomial: negativeBinomial,
    Binomial: binomial,
    ZeroInflatedPoisson: zeroInflated(poisson),
    ZeroInflatedNegativeBinomial: zeroInflated(negativeBinomial),
    MixtureOfNormal: mixture(normalCdf, normal),
    MixtureOfLogistic: mixture(sigmoid, (level) => Math.log(level / (1 - level))),
  };
})((globalThis.lfm = globalThis.lfm || {}));
