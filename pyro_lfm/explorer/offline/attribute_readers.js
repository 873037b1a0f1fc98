// lfm.attributeReaders: what points say about attributes, and what a request asks of them, as pyro_lfm/attributes has it.
// lfm.exportedAttributes moves points by them.
(function (lfm) {
  "use strict";

  const { logSumExp } = lfm.weightedDraws;
  const likeliest = (values) => values.indexOf(Math.max(...values));

  /** The readers: outputs and log densities of codes, and what the outputs say. */
  function readersOf(document, arrays) {
    const toCodes = lfm.graph(document.to_codes, arrays), ofCodes = lfm.graph(document.of_codes, arrays);
    const { attributes, means, deviations } = document, width = document.least[0].length;
    const rows = (list, type) =>
      lfm.tensors.tensor(type, [list.length, list[0].length], lfm.tensors.ARRAYS[type].from(list.flat()));

    function at(codes) {
      const { outputs, log_density: density, point } = ofCodes.run({ codes: rows(codes, ofCodes.inputs[0].type) });
      const each = attributes.length * width, count = point.shape[1];
      return codes.map((_, row) => ({
        outputs: outputs.data.subarray(row * each, (row + 1) * each),
        density: density.data[row],
        point: Array.from(point.data.subarray(row * count, (row + 1) * count)),
      }));
    }
    const codesOf = (z) => Array.from(toCodes.run({ z: rows([z], toCodes.inputs[0].type) }).codes.data);
    const logits = (outputs, a) => Array.from(outputs.subarray(a * width, a * width + attributes[a].labels.length));

    /** r of an attribute: a number in deviations, or the log odds of a label against all others. */
    function number(outputs, a, label) {
      if (!attributes[a].labels.length) return outputs[a * width];
      const each = logits(outputs, a);
      return each[label] - logSumExp(each.filter((_, k) => k !== label));
    }

    /** In the units of the labels: a number, the probability of the second of two labels, or that of each. */
    function value(outputs, a) {
      if (!attributes[a].labels.length) return means[a] + deviations[a] * outputs[a * width];
      const each = logits(outputs, a), all = logSumExp(each), shares = each.map((logit) => Math.exp(logit - all));
      return attributes[a].kind === "binary" ? shares[1] : shares;
    }
    return { at, codesOf, number, value, logits, width };
  }

  /** What is asked for: [{a, code, place}], a label's place being the log odds that it is to have. */
  function requestOf(document, targets, logOdds) {
    const { attributes, means, deviations } = document;
    return Object.entries(targets).map(([name, target]) => {
      const a = attributes.findIndex((one) => one.name === name);
      if (a < 0) throw new Error(`There is no attribute ${name}.`);
      const { labels, kind, low, high } = attributes[a];
      if (kind === "number") {
        if (!(target >= low && target <= high)) throw new Error(`${name} must lie between ${low} and ${high}.`);
        return { a, code: target, place: (target - means[a]) / deviations[a] };
      }
      const code = typeof target === "boolean" ? Number(target) : labels.indexOf(String(target));
      if (code < 0) throw new Error(`${name} must be one of ${labels.join(", ")}.`);
      return { a, code, place: logOdds[a][code] };
    });
  }

  lfm.attributeReaders = { readersOf, requestOf, likeliest };
})((globalThis.lfm = globalThis.lfm || {}));
