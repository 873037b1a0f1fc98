// lfm.weightedDraws: choices among draws by weight, and a temperature at which enough of them carry weight.
// lfm.exportedAttributes generates rows by them.
(function (lfm) {
  "use strict";

  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const logSumExp = (values) => {
    const top = Math.max(...values);
    return top + Math.log(sum(values.map((value) => Math.exp(value - top))));
  };

  /** Uniform numbers of a seed: mulberry32. */
  function uniform(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  /** Places of `count` draws by their weights, by systematic resampling. */
  function resampled(logWeights, count, random) {
    const all = logSumExp(logWeights), start = random(), places = [];
    let cumulated = 0, place = -1;
    for (let k = 0; k < count; k++) {
      while (cumulated <= (k + start) / count && place < logWeights.length - 1) {
        place++;
        cumulated += Math.exp(logWeights[place] - all);
      }
      places.push(place);
    }
    return places;
  }

  /** The largest inverse temperature up to 1 at which the effective number of draws is at least `kept`. */
  function temperature(energies, kept) {
    const effective = (beta) => {
      const logs = energies.map((energy) => -beta * energy);
      return Math.exp(2 * logSumExp(logs) - logSumExp(logs.map((log) => 2 * log)));
    };
    let low = 0, high = 1;
    if (effective(1) >= kept) return 1;
    for (let k = 0; k < 60; k++) {
      const middle = low ? Math.sqrt(low * high) : high / 16;
      if (effective(middle) >= kept || middle < 1e-12) low = middle;
      else high = middle;
    }
    return low;
  }

  lfm.weightedDraws = { sum, logSumExp, uniform, resampled, temperature };
})((globalThis.lfm = globalThis.lfm || {}));
