// Operators of ONNX that look entries up, or put them, by indices. lfm.graph uses them.
(function (lfm) {
  "use strict";

  const { size, tensor, integers, strides, dimension, moved, reshaped } = lfm.tensors;

  function gather([x, indices], { axis = 0 }) {
    const place = dimension(axis, x.shape.length), length = x.shape[place];
    const outer = size(x.shape.slice(0, place)), inner = size(x.shape.slice(place + 1)), count = indices.data.length;
    const result = tensor(x.type, [...x.shape.slice(0, place), ...indices.shape, ...x.shape.slice(place + 1)]);
    for (let row = 0, at = 0; row < outer; row++) {
      for (let k = 0; k < count; k++, at += inner) {
        const start = (row * length + dimension(indices.data[k], length)) * inner;
        result.data.set(x.data.subarray(start, start + inner), at);
      }
    }
    return result;
  }

  /** Calls visit(place of the index, place in x) for GatherElements and ScatterElements. */
  function eachElement(x, indices, axis, visit) {
    const place = dimension(axis, x.shape.length), own = strides(indices.shape), steps = strides(x.shape);
    for (let i = 0; i < indices.data.length; i++) {
      let at = 0;
      for (let d = 0, rest = i; d < own.length; d++) {
        const index = Math.floor(rest / own[d]);
        rest -= index * own[d];
        at += steps[d] * (d === place ? dimension(indices.data[i], x.shape[d]) : index);
      }
      visit(i, at);
    }
  }

  function gatherElements([x, indices], { axis = 0 }) {
    const result = tensor(x.type, indices.shape);
    eachElement(x, indices, axis, (i, at) => { result.data[i] = x.data[at]; });
    return result;
  }

  const PUT = {
    none: (old, value) => value,
    add: (old, value) => old + value,
    mul: (old, value) => old * value,
    max: Math.max,
    min: Math.min,
  };

  function scatterElements([x, indices, updates], { axis = 0, reduction = "none" }) {
    const result = tensor(x.type, x.shape, x.data.slice()), put = PUT[reduction];
    eachElement(x, indices, axis, (i, at) => { result.data[at] = put(result.data[at], updates.data[i]); });
    return result;
  }

  /** Where each tuple of indices (..., depth) leads in x: the offset, and the number of entries there. */
  function tuples(x, indices, batch) {
    const depth = indices.shape[indices.shape.length - 1], steps = strides(x.shape), count = size(indices.shape.slice(0, -1));
    const each = count / size(x.shape.slice(0, batch)), offsets = new Array(count);
    const whole = batch ? steps[batch - 1] : x.data.length;
    for (let k = 0; k < count; k++) {
      let at = Math.floor(k / each) * (batch ? whole : 0);
      for (let d = 0; d < depth; d++) {
        at += steps[batch + d] * dimension(indices.data[k * depth + d], x.shape[batch + d]);
      }
      offsets[k] = at;
    }
    return { offsets, inner: size(x.shape.slice(batch + depth)), rest: x.shape.slice(batch + depth) };
  }

  function gatherND([x, indices], { batch_dims: batch = 0 }) {
    const { offsets, inner, rest } = tuples(x, indices, batch);
    const result = tensor(x.type, [...indices.shape.slice(0, -1), ...rest]);
    offsets.forEach((at, k) => result.data.set(x.data.subarray(at, at + inner), k * inner));
    return result;
  }

  function scatterND([x, indices, updates], { reduction = "none" }) {
    const { offsets, inner } = tuples(x, indices, 0), put = PUT[reduction];
    const result = tensor(x.type, x.shape, x.data.slice());
    offsets.forEach((at, k) => {
      for (let i = 0; i < inner; i++) result.data[at + i] = put(result.data[at + i], updates.data[k * inner + i]);
    });
    return result;
  }

  /** The indices of the entries that are not zero, (rank, count). */
  function nonZero([x]) {
    const steps = strides(x.shape), places = [];
    x.data.forEach((value, i) => value !== 0 && places.push(i));
    const result = tensor("int", [x.shape.length, places.length]);
    steps.forEach((step, d) => places.forEach((place, k) => {
      result.data[d * places.length + k] = Math.floor(place / step) % x.shape[d];
    }));
    return result;
  }

  function oneHot([indices, depth, values], { axis = -1 }) {
    const count = depth.data[0], result = tensor(values.type, [...indices.shape, count]);
    result.data.fill(values.data[0]);
    indices.data.forEach((index, k) => {
      const code = dimension(index, count);
      if (code >= 0 && code < count) result.data[k * count + code] = values.data[1];
    });
    return moved(result, indices.shape.length, dimension(axis, indices.shape.length + 1));
  }

  /** Entries, or whole parts along a dimension, where a condition holds. */
  function compress([x, condition], { axis }) {
    const kept = [];
    condition.data.forEach((value, i) => value && kept.push(i));
    return axis === undefined
      ? gather([reshaped(x, [x.data.length]), integers(kept)], {})
      : gather([x, integers(kept)], { axis });
  }

  lfm.indexOperators = {
    Gather: gather,
    GatherElements: gatherElements,
    GatherND: gatherND,
    ScatterElements: scatterElements,
    ScatterND: scatterND,
    NonZero: nonZero,
    OneHot: oneHot,
    Compress: compress,
  };
})((globalThis.lfm = globalThis.lfm || {}));
