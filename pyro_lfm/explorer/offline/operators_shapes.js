// Operators of ONNX that arrange the entries of tensors. lfm.graph uses them.
(function (lfm) {
  "use strict";

  const {
    size, tensor, integers, reshaped, strides, strided, broadcastShape, expanded, transposed, dimension,
  } = lfm.tensors;

  const numbers = (x) => Array.from(x.data);

  /** The dimensions that an operator names, by an input or in older versions by an attribute. */
  const axesOf = (input, attribute, rank) =>
    input || attribute ? (input ? numbers(input) : attribute).map((axis) => dimension(axis, rank)) : null;

  /** The entries at lists of indices, one list a dimension; -1 stands for the fill. */
  function taken(x, lists, fill = 0) {
    const result = tensor(x.type, lists.map((list) => list.length)), steps = strides(x.shape), rank = lists.length;
    const target = result.data, source = x.data;
    let out = 0;
    (function walk(d, at, inside) {
      if (d === rank) {
        target[out++] = inside ? source[at] : fill;
        return;
      }
      for (const i of lists[d]) walk(d + 1, at + i * steps[d], inside && i >= 0);
    })(0, 0, true);
    return result;
  }

  const counted = (n) => Array.from({ length: n }, (_, i) => i);

  function shapeOf([x], { start = 0, end }) {
    const rank = x.shape.length, place = (k) => Math.min(rank, Math.max(0, dimension(k, rank)));
    return integers(x.shape.slice(place(start), place(end === undefined ? rank : end)));
  }

  function reshape([x, target], { allowzero }) {
    const shape = numbers(target).map((n, d) => (n === 0 && !allowzero ? x.shape[d] : n));
    const open = shape.indexOf(-1);
    if (open >= 0) {
      const known = shape.reduce((product, n) => (n === -1 ? product : product * n), 1);
      shape[open] = known ? x.data.length / known : 0;
    }
    return reshaped(x, shape);
  }

  function squeeze([x, axes], attributes) {
    const gone = axesOf(axes, attributes.axes, x.shape.length);
    return reshaped(x, x.shape.filter((n, d) => (gone ? !gone.includes(d) : n !== 1)));
  }

  function unsqueeze([x, axes], attributes) {
    const rank = x.shape.length + (axes ? axes.data.length : attributes.axes.length);
    const added = axesOf(axes, attributes.axes, rank), rest = [...x.shape];
    return reshaped(x, counted(rank).map((d) => (added.includes(d) ? 1 : rest.shift())));
  }

  function flatten([x], { axis = 1 }) {
    const place = axis < 0 ? axis + x.shape.length : axis;
    return reshaped(x, [size(x.shape.slice(0, place)), size(x.shape.slice(place))]);
  }

  const transpose = ([x], { perm }) => transposed(x, perm || counted(x.shape.length).reverse());

  const expand = ([x, shape]) => expanded(x, broadcastShape(x.shape, numbers(shape)));

  /** Tensors side by side along a dimension. */
  function concat(inputs, { axis }) {
    const place = dimension(axis, inputs[0].shape.length), shape = [...inputs[0].shape];
    shape[place] = inputs.reduce((sum, x) => sum + x.shape[place], 0);
    const result = tensor(inputs[0].type, shape), outer = size(shape.slice(0, place));
    const widths = inputs.map((x) => size(x.shape.slice(place)));
    for (let row = 0, at = 0; row < outer; row++) {
      inputs.forEach((x, k) => {
        result.data.set(x.data.subarray(row * widths[k], (row + 1) * widths[k]), at);
        at += widths[k];
      });
    }
    return result;
  }

  function split([x, sizes], { axis = 0, split: older, num_outputs: parts }, outputs) {
    const place = dimension(axis, x.shape.length), length = x.shape[place], count = parts || outputs;
    const even = counted(count).map((k) => {
      const chunk = Math.ceil(length / count);
      return Math.max(0, Math.min(chunk, length - k * chunk));
    });
    const steps = strides(x.shape);
    let start = 0;
    return (sizes ? numbers(sizes) : older || even).map((width) => {
      const shape = [...x.shape];
      shape[place] = width;
      start += width;
      return strided(x, shape, steps, (start - width) * steps[place]);
    });
  }

  function slice([x, starts, ends, axes, jumps], attributes) {
    const rank = x.shape.length, from = starts ? numbers(starts) : attributes.starts;
    const to = ends ? numbers(ends) : attributes.ends, along = axesOf(axes, attributes.axes, rank) || counted(from.length);
    const shape = [...x.shape], steps = strides(x.shape);
    let offset = 0;
    along.forEach((d, k) => {
      const jump = jumps ? jumps.data[k] : 1, length = x.shape[d];
      const inside = (place, least, most) => Math.min(most, Math.max(least, place < 0 ? place + length : place));
      const first = jump > 0 ? inside(from[k], 0, length) : inside(from[k], 0, length - 1);
      const last = jump > 0 ? inside(to[k], 0, length) : inside(to[k], -1, length - 1);
      offset += first * steps[d];
      shape[d] = Math.max(0, Math.ceil((last - first) / jump));
      steps[d] *= jump;
    });
    return strided(x, shape, steps, offset);
  }

  const tile = ([x, repeats]) =>
    taken(x, x.shape.map((n, d) => counted(n * repeats.data[d]).map((i) => i % n)));

  /** The index inside a length that stands at a place outside, by the mode of Pad. */
  function padded(i, length, mode) {
    if (i >= 0 && i < length) return i;
    if (mode === "edge") return i < 0 ? 0 : length - 1;
    if (mode === "wrap") return ((i % length) + length) % length;
    if (mode === "reflect") return padded(i < 0 ? -i : 2 * (length - 1) - i, length, mode);
    return -1;
  }

  function pad([x, pads, value, axes], { mode = "constant", pads: older, value: olderValue }) {
    const widths = pads ? numbers(pads) : older, along = axes ? numbers(axes) : counted(x.shape.length);
    const lists = x.shape.map(counted);
    along.forEach((axis, k) => {
      const d = dimension(axis, x.shape.length), before = widths[k], length = x.shape[d];
      lists[d] = counted(before + length + widths[k + along.length]).map((i) => padded(i - before, length, mode));
    });
    return taken(x, lists, value ? value.data[0] : olderValue || 0);
  }

  function constantOfShape([shape], { value }) {
    const result = tensor(value ? value.type : "float32", numbers(shape));
    result.data.fill(value ? value.data[0] : 0);
    return result;
  }

  function range([start, limit, delta]) {
    const count = Math.max(0, Math.ceil((limit.data[0] - start.data[0]) / delta.data[0])), result = tensor(start.type, [count]);
    for (let i = 0; i < count; i++) result.data[i] = start.data[0] + i * delta.data[0];
    return result;
  }

  /** The upper or the lower triangle of matrices. */
  function triangle([x, diagonal], { upper = 1 }) {
    const [rows, columns] = x.shape.slice(-2), k = diagonal ? diagonal.data[0] : 0, result = tensor(x.type, x.shape);
    for (let i = 0; i < x.data.length; i++) {
      const row = Math.floor(i / columns) % rows, column = i % columns;
      if (upper ? column >= row + k : column <= row + k) result.data[i] = x.data[i];
    }
    return result;
  }

  function eyeLike([x], { k = 0, dtype }) {
    const result = tensor(dtype || x.type, x.shape), columns = x.shape[1];
    for (let row = 0; row < x.shape[0]; row++) {
      if (row + k >= 0 && row + k < columns) result.data[row * columns + row + k] = 1;
    }
    return result;
  }

  function depthToSpace([x], { blocksize: b, mode = "DCR" }) {
    const [n, c, h, w] = x.shape, depth = c / (b * b);
    const first = mode === "DCR" ? [n, b, b, depth, h, w] : [n, depth, b, b, h, w];
    const order = mode === "DCR" ? [0, 3, 4, 1, 5, 2] : [0, 1, 4, 2, 5, 3];
    return reshaped(transposed(reshaped(x, first), order), [n, depth, h * b, w * b]);
  }

  function spaceToDepth([x], { blocksize: b }) {
    const [n, c, h, w] = x.shape;
    const blocks = transposed(reshaped(x, [n, c, h / b, b, w / b, b]), [0, 3, 5, 1, 2, 4]);
    return reshaped(blocks, [n, c * b * b, h / b, w / b]);
  }

  lfm.shapeOperators = {
    Shape: shapeOf,
    Size: ([x]) => tensor("int", [], Float64Array.of(x.data.length)),
    Reshape: reshape,
    Squeeze: squeeze,
    Unsqueeze: unsqueeze,
    Flatten: flatten,
    Transpose: transpose,
    Expand: expand,
    Concat: concat,
    Split: split,
    Slice: slice,
    Tile: tile,
    Pad: pad,
    ConstantOfShape: constantOfShape,
    Range: range,
    Trilu: triangle,
    EyeLike: eyeLike,
    DepthToSpace: depthToSpace,
    SpaceToDepth: spaceToDepth,
  };
  lfm.indexing = { numbers, axesOf, taken, counted };
})((globalThis.lfm = globalThis.lfm || {}));
