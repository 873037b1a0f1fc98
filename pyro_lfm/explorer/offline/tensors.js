// Tensors of the interpreter: {type, shape, data}, row-major. The operators use them.
// Types are "float32", "float64", "int" (whole numbers below 2^53, in a Float64Array) and "bool".
(function (lfm) {
  "use strict";

  const ARRAYS = { float32: Float32Array, float64: Float64Array, int: Float64Array, bool: Uint8Array };

  const size = (shape) => shape.reduce((product, n) => product * n, 1);

  /** A tensor; without data its entries are zero. */
  function tensor(type, shape, data) {
    return { type, shape, data: data || new ARRAYS[type](size(shape)) };
  }

  const integers = (values) => tensor("int", [values.length], Float64Array.from(values));

  /** The same entries in another shape. */
  const reshaped = (x, shape) => ({ type: x.type, shape, data: x.data });

  function strides(shape) {
    const steps = new Array(shape.length);
    let step = 1;
    for (let d = shape.length - 1; d >= 0; d--) {
      steps[d] = step;
      step *= shape[d];
    }
    return steps;
  }

  /** The entries at offset + Σ index_d · steps_d for all indices of a shape, as a new tensor of that shape. */
  function strided(x, shape, steps, offset = 0) {
    const result = tensor(x.type, shape);
    const source = x.data, target = result.data, rank = shape.length;
    if (rank === 0) target[0] = source[offset];
    if (rank === 0 || target.length === 0) return result;
    const inner = shape[rank - 1], step = steps[rank - 1], index = new Array(rank).fill(0);
    for (let at = offset, out = 0; out < target.length; ) {
      for (let i = 0, p = at; i < inner; i++, p += step) target[out++] = source[p];
      for (let d = rank - 2; d >= 0; d--) {
        at += steps[d];
        if (++index[d] < shape[d]) break;
        at -= steps[d] * shape[d];
        index[d] = 0;
      }
    }
    return result;
  }

  /** The shape to which shapes are broadcast. */
  function broadcastShape(...shapes) {
    const rank = Math.max(...shapes.map((shape) => shape.length));
    return Array.from({ length: rank }, (_, d) => {
      const sizes = shapes.map((shape) => shape[shape.length - rank + d]).filter((n) => n !== undefined && n !== 1);
      if (sizes.some((n) => n !== sizes[0])) {
        throw new Error(`shapes ${shapes.map((shape) => `(${shape})`).join(" and ")} do not fit`);
      }
      return sizes.length ? sizes[0] : 1;
    });
  }

  /** A tensor broadcast to a shape, as a copy where the shape differs. */
  function expanded(x, shape) {
    if (x.data.length === size(shape)) return reshaped(x, shape);
    const own = strides(x.shape), skipped = shape.length - x.shape.length;
    return strided(x, shape, shape.map((_, d) => (d < skipped || x.shape[d - skipped] === 1 ? 0 : own[d - skipped])));
  }

  function transposed(x, order) {
    const steps = strides(x.shape);
    return strided(x, order.map((d) => x.shape[d]), order.map((d) => steps[d]));
  }

  /** A dimension counted from the front. */
  const dimension = (axis, rank) => (axis < 0 ? axis + rank : axis);

  /** A tensor with one dimension moved to another place. */
  function moved(x, from, to) {
    if (from === to) return x;
    const order = x.shape.map((_, d) => d).filter((d) => d !== from);
    order.splice(to, 0, from);
    return transposed(x, order);
  }

  lfm.tensors = {
    ARRAYS, size, tensor, integers, reshaped, strides, strided, broadcastShape, expanded, transposed, dimension, moved,
  };
})((globalThis.lfm = globalThis.lfm || {}));
