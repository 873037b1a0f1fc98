// lfm.likelihoods: what a decoder's graph gives of each entry of a variable, with intervals. lfm.exportedSource shows it.
(function (lfm) {
  "use strict";

  /**
   * The likelihoods of the variables of one decoded row.
   *
   * @param outputs the outputs of the graph, by name.
   * @param answers {variable: how its intervals are made}, as pyro_lfm/explorer/exported/page_payload.py writes it.
   * @param level of the intervals.
   */
  function likelihoods(outputs, answers, level) {
    const ends = [(1 - level) / 2, (1 + level) / 2];
    const of = (variable, key) => outputs[`${variable}.${key}`];

    /** The numbers of an entry of an output: one, or those of all labels or components. */
    function entry(variable, key, place) {
      const output = of(variable, key), width = output.shape.length > 2 ? output.shape[2] : 1;
      return width === 1 && output.shape.length < 3
        ? output.data[place]
        : Array.from(output.data.subarray(place * width, (place + 1) * width));
    }

    /** The value of a grid that is nearest. */
    function onGrid(value, grid) {
      if (!grid) return value;
      const [low, high, levels] = grid, step = (high - low) / (levels - 1);
      return low + step * Math.min(levels - 1, Math.max(0, Math.round((value - low) / step)));
    }

    function quantile(variable, place, probability) {
      const { family, parameters, grid } = answers[variable];
      const values = { mean: entry(variable, "mean", place), deviation: entry(variable, "deviation", place) };
      for (const name of parameters) values[name] = entry(variable, name, place);
      return onGrid(lfm.quantiles[family](probability, values), grid);
    }

    /** Mean ± z deviations inside the support, where no quantiles are known. */
    function byMoments(variable, place) {
      const mean = entry(variable, "mean", place), deviation = entry(variable, "deviation", place);
      const [low, high] = answers[variable].support.map((values) => values[values.length > 1 ? place : 0]);
      const inside = (value) => Math.min(high ?? Infinity, Math.max(low ?? -Infinity, value));
      return ends.map((end) => inside(lfm.quantiles.Normal(end, { mean, deviation })));
    }

    function interval(variable, place) {
      const { family, interval: kind } = answers[variable];
      if (kind === "moments") return byMoments(variable, place);
      if (family) return ends.map((end) => quantile(variable, place, end));
      return [entry(variable, "lower", place), entry(variable, "upper", place)];
    }

    function mean(variable, place) {
      const value = entry(variable, "mean", place);
      return Number.isFinite(value) || !answers[variable].family ? value : quantile(variable, place, 0.5);
    }

    /** The probability of each label of an entry; null of numbers. */
    const probabilities = (variable, place) =>
      of(variable, "probabilities") ? entry(variable, "probabilities", place) : null;

    const all = (variable, key) => Array.from(of(variable, key).data);
    return { interval, mean, probabilities, all };
  }

  lfm.likelihoods = likelihoods;
})((globalThis.lfm = globalThis.lfm || {}));
