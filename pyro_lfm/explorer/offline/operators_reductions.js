// Operators of ONNX that combine the entries along dimensions: sums, softmax, order, normalisation. lfm.graph uses them.
(function (lfm) {
  "use strict";

  const { size, tensor, integers, reshaped, expanded, transposed, dimension, moved } = lfm.tensors;
  const { axesOf, counted } = lfm.indexing;

  const total = (data, from, to, of = (x) => x) => {
    let sum = 0;
    for (let i = from; i < to; i++) sum += of(data[i]);
    return sum;
  };

  const extreme = (better, start) => (data, from, to) => {
    let best = start;
    for (let i = from; i < to; i++) if (better(data[i], best) || data[i] !== data[i]) best = data[i];
    return best;
  };
  const most = extreme((a, b) => a > b, -Infinity), least = extreme((a, b) => a < b, Infinity);

  function logSumExp(data, from, to) {
    const top = most(data, from, to);
    return Number.isFinite(top) ? top + Math.log(total(data, from, to, (x) => Math.exp(x - top))) : top;
  }

  /** An operator that makes one entry of all entries along some dimensions. */
  const reduction = (combine) => ([x, axes], { axes: older, keepdims = 1, noop_with_empty_axes: noop }) => {
    const rank = x.shape.length, named = axesOf(axes, older, rank);
    const none = !named || named.length === 0;
    if (none && noop) return x;
    const gone = none ? counted(rank) : named, kept = counted(rank).filter((d) => !gone.includes(d));
    const ordered = gone.length && kept.some((d) => d > Math.min(...gone)) ? transposed(x, [...kept, ...gone]) : x;
    const shape = keepdims ? x.shape.map((n, d) => (gone.includes(d) ? 1 : n)) : kept.map((d) => x.shape[d]);
    const result = tensor(x.type, shape), block = size(gone.map((d) => x.shape[d]));
    for (let k = 0; k < result.data.length; k++) result.data[k] = combine(ordered.data, k * block, (k + 1) * block);
    return result;
  };

  /** An operator of each line along one dimension: of(source, start, length, target). */
  const alongAxis = (of, otherwise) => (inputs, attributes) => {
    const [x, input] = inputs;
    const axis = input ? input.data[0] : attributes.axis === undefined ? otherwise : attributes.axis;
    const place = dimension(axis, x.shape.length), last = x.shape.length - 1;
    const lines = moved(x, place, last), result = tensor(x.type, lines.shape), length = x.shape[place];
    for (let start = 0; start < lines.data.length; start += length) of(lines.data, start, length, result.data, attributes);
    return moved(result, last, place);
  };

  function softmax(source, start, length, target) {
    const top = most(source, start, start + length);
    let sum = 0;
    for (let i = start; i < start + length; i++) sum += Math.exp(source[i] - top);
    for (let i = start; i < start + length; i++) target[i] = Math.exp(source[i] - top) / sum;
  }

  function logSoftmax(source, start, length, target) {
    const all = logSumExp(source, start, start + length);
    for (let i = start; i < start + length; i++) target[i] = source[i] - all;
  }

  function cumulative(source, start, length, target, { exclusive, reverse }) {
    let sum = 0;
    for (let k = 0; k < length; k++) {
      const i = start + (reverse ? length - 1 - k : k);
      target[i] = exclusive ? sum : sum + source[i];
      sum += source[i];
    }
  }

  /** The places of the best entries along a dimension, best first; equal ones in their order. */
  function sorted(x, axis, count, largest) {
    const place = dimension(axis, x.shape.length), last = x.shape.length - 1;
    const lines = moved(x, place, last), length = x.shape[place], shape = [...lines.shape.slice(0, last), count];
    const values = tensor(x.type, shape), places = tensor("int", shape);
    for (let line = 0; line * length < lines.data.length; line++) {
      const own = lines.data.subarray(line * length, (line + 1) * length);
      const order = counted(length).sort((i, j) => (largest ? own[j] - own[i] : own[i] - own[j]) || i - j);
      for (let k = 0; k < count; k++) {
        values.data[line * count + k] = own[order[k]];
        places.data[line * count + k] = order[k];
      }
    }
    return [moved(values, last, place), moved(places, last, place)];
  }

  const topK = ([x, count], { axis = -1, largest = 1 }) => sorted(x, axis, count.data[0], largest);

  const extremePlace = (largest) => ([x], { axis = 0, keepdims = 1 }) => {
    const places = sorted(x, axis, 1, largest)[1];
    if (keepdims) return places;
    const place = dimension(axis, x.shape.length);
    return reshaped(places, places.shape.filter((_, d) => d !== place));
  };

  /** (x - mean) / deviation of blocks of entries that follow each other. */
  function standardised(x, block, epsilon) {
    const result = tensor(x.type, x.shape);
    for (let start = 0; start < x.data.length; start += block) {
      const mean = total(x.data, start, start + block) / block;
      const variance = total(x.data, start, start + block, (v) => (v - mean) ** 2) / block;
      const scale = 1 / Math.sqrt(variance + epsilon);
      for (let i = start; i < start + block; i++) result.data[i] = (x.data[i] - mean) * scale;
    }
    return result;
  }

  const scaled = (x, scale, bias) => {
    const { Mul, Add } = lfm.elementwiseOperators, product = Mul([x, scale]);
    return bias ? Add([product, bias]) : product;
  };

  /** One number a channel, for tensors (rows, channels, ...). */
  const ofChannels = (v, x) => reshaped(v, [v.data.length, ...x.shape.slice(2).map(() => 1)]);

  function layerNormalisation([x, scale, bias], { axis = -1, epsilon = 1e-5 }) {
    const block = size(x.shape.slice(dimension(axis, x.shape.length)));
    return scaled(standardised(x, block, epsilon), scale, bias);
  }

  function groupNormalisation([x, scale, bias], { epsilon = 1e-5, num_groups: groups = x.shape[1] }) {
    const whole = standardised(x, size(x.shape.slice(1)) / groups, epsilon);
    return scaled(whole, ofChannels(scale, x), ofChannels(bias, x));
  }

  function batchNormalisation([x, scale, bias, mean, variance], { epsilon = 1e-5 }) {
    const factor = tensor("float64", scale.shape), added = tensor("float64", scale.shape);
    scale.data.forEach((value, c) => {
      factor.data[c] = value / Math.sqrt(variance.data[c] + epsilon);
      added.data[c] = bias.data[c] - mean.data[c] * factor.data[c];
    });
    return scaled(x, ofChannels(factor, x), ofChannels(added, x));
  }

  lfm.reductionOperators = {
    ReduceSum: reduction(total),
    ReduceMean: reduction((data, from, to) => total(data, from, to) / (to - from)),
    ReduceMax: reduction(most),
    ReduceMin: reduction(least),
    ReduceProd: reduction((data, from, to) => data.subarray(from, to).reduce((product, x) => product * x, 1)),
    ReduceL1: reduction((data, from, to) => total(data, from, to, Math.abs)),
    ReduceL2: reduction((data, from, to) => Math.sqrt(total(data, from, to, (x) => x * x))),
    ReduceSumSquare: reduction((data, from, to) => total(data, from, to, (x) => x * x)),
    ReduceLogSum: reduction((data, from, to) => Math.log(total(data, from, to))),
    ReduceLogSumExp: reduction(logSumExp),
    Softmax: alongAxis(softmax, -1),
    LogSoftmax: alongAxis(logSoftmax, -1),
    CumSum: alongAxis(cumulative, 0),
    TopK: topK,
    ArgMax: extremePlace(1),
    ArgMin: extremePlace(0),
    LayerNormalization: layerNormalisation,
    GroupNormalization: groupNormalisation,
    InstanceNormalization: groupNormalisation,
    BatchNormalization: batchNormalisation,
  };
})((globalThis.lfm = globalThis.lfm || {}));
