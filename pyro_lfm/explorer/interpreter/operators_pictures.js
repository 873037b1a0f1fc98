// Operators of ONNX on pictures (rows, channels, height, width): convolutions, pooling, resizing. lfm.graph uses them.
// Lines (rows, channels, length) are pictures of height 1.
"use strict";
(function (lfm) {
  const { size, tensor, reshaped } = lfm.tensors;
  const { taken, counted } = lfm.indexing;

  const asPicture = (x) => (x.shape.length === 3 ? reshaped(x, [...x.shape.slice(0, 2), 1, x.shape[2]]) : x);
  const asLine = (x) => reshaped(x, [...x.shape.slice(0, 2), x.shape[3]]);

  /** Two numbers for height and width, from an attribute of one or two. */
  const pair = (values, otherwise) => (!values ? [otherwise, otherwise] : values.length === 1 ? [otherwise, values[0]] : values);

  /** The pads before and after: [top, left, bottom, right]. */
  const pads = (values) => (!values ? [0, 0, 0, 0] : values.length === 2 ? [0, values[0], 0, values[1]] : values);

  /** How a window moves over a picture, with the pads that auto_pad asks for. */
  function windowOf(attributes, kernel, picture) {
    const strides = pair(attributes.strides, 1), dilations = pair(attributes.dilations, 1), around = [...pads(attributes.pads)];
    if (attributes.auto_pad && attributes.auto_pad.startsWith("SAME")) {
      kernel.forEach((width, d) => {
        const count = Math.ceil(picture[d] / strides[d]);
        const missing = Math.max(0, (count - 1) * strides[d] + (width - 1) * dilations[d] + 1 - picture[d]);
        around[d] = attributes.auto_pad === "SAME_UPPER" ? Math.floor(missing / 2) : Math.ceil(missing / 2);
        around[d + 2] = missing - around[d];
      });
    }
    const round = attributes.ceil_mode ? Math.ceil : Math.floor;
    const counts = kernel.map((width, d) => {
      const room = picture[d] + around[d] + around[d + 2] - (width - 1) * dilations[d] - 1;
      const count = round(room / strides[d]) + 1;
      // A window must start inside the picture or the pad before it.
      return (count - 1) * strides[d] >= picture[d] + around[d] ? count - 1 : count;
    });
    return { strides, dilations, around, counts };
  }

  /** The first and the last place o with 0 <= o * stride + shift < length, among `count` places. */
  function inside(stride, shift, length, count) {
    const first = Math.max(0, Math.ceil(-shift / stride)), last = Math.min(count - 1, Math.floor((length - 1 - shift) / stride));
    return [first, last];
  }

  /** Adds `factor` times the picture at `from`, seen through one place of the kernel, to the picture at `to`. */
  function addShifted(source, from, [height, width], target, to, [rows, columns], [sy, sx], [dy, dx], factor) {
    const [top, bottom] = inside(sy, dy, height, rows), [left, right] = inside(sx, dx, width, columns);
    for (let y = top; y <= bottom; y++) {
      let at = from + (y * sy + dy) * width + left * sx + dx;
      for (let out = to + y * columns + left, end = to + y * columns + right; out <= end; out++, at += sx) {
        target[out] += factor * source[at];
      }
    }
  }

  /** The same in the other direction: each pixel of the source adds to the place of the target that sees it. */
  function addSpread(source, from, [height, width], target, to, [rows, columns], [sy, sx], [dy, dx], factor) {
    const [top, bottom] = inside(sy, dy, rows, height), [left, right] = inside(sx, dx, columns, width);
    for (let y = top; y <= bottom; y++) {
      let out = to + (y * sy + dy) * columns + left * sx + dx;
      for (let at = from + y * width + left, end = from + y * width + right; at <= end; at++, out += sx) {
        target[out] += factor * source[at];
      }
    }
  }

  /** Sums over input channels and places of the kernel, one output channel at a time. */
  function convolved(x, kernel, counts, { strides, dilations, around }, { groups, depth, bias, weight, add }) {
    const [rows, channels, ...picture] = x.shape, share = channels / groups, each = depth / groups;
    const result = tensor(x.type, [rows, depth, ...counts]), area = size(counts), own = size(picture);
    const sums = new Float64Array(area);
    for (let row = 0; row < rows; row++) {
      for (let out = 0; out < depth; out++) {
        sums.fill(bias ? bias.data[out] : 0);
        const first = Math.floor(out / each) * share;
        for (let c = first; c < first + share; c++) {
          for (let k = 0; k < kernel[0] * kernel[1]; k++) {
            const factor = weight(out, c, k), y = Math.floor(k / kernel[1]), place = k - y * kernel[1];
            const shift = [y * dilations[0] - around[0], place * dilations[1] - around[1]];
            add(x.data, (row * channels + c) * own, picture, sums, 0, counts, strides, shift, factor);
          }
        }
        result.data.set(sums, (row * depth + out) * area);
      }
    }
    return result;
  }

  function conv([input, weights, bias], attributes) {
    const x = asPicture(input), w = asPicture(weights), kernel = w.shape.slice(2), area = size(kernel);
    const groups = attributes.group || 1, depth = w.shape[0], share = w.shape[1];
    const moves = windowOf(attributes, kernel, x.shape.slice(2));
    const weight = (out, c, k) => w.data[(out * share + (c % share)) * area + k];
    const result = convolved(x, kernel, moves.counts, moves, { groups, depth, bias, weight, add: addShifted });
    return input.shape.length === 3 ? asLine(result) : result;
  }

  function convTranspose([input, weights, bias], attributes) {
    const x = asPicture(input), w = asPicture(weights), kernel = w.shape.slice(2), area = size(kernel);
    const groups = attributes.group || 1, each = w.shape[1], depth = each * groups;
    const strides = pair(attributes.strides, 1), dilations = pair(attributes.dilations, 1), around = pads(attributes.pads);
    const extra = pair(attributes.output_padding, 0);
    const counts = kernel.map((width, d) =>
      strides[d] * (x.shape[2 + d] - 1) + extra[d] + (width - 1) * dilations[d] + 1 - around[d] - around[d + 2]);
    const weight = (out, c, k) => w.data[(c * each + (out % each)) * area + k];
    const result = convolved(x, kernel, counts, { strides, dilations, around },
      { groups, depth, bias, weight, add: addSpread });
    return input.shape.length === 3 ? asLine(result) : result;
  }

  /** An operator that makes one number of each window: start, one step for a pixel, and the end. */
  const pooling = (start, step, end) => ([input], attributes) => {
    const x = asPicture(input), [height, width] = x.shape.slice(2), kernel = pair(attributes.kernel_shape, 1);
    const { strides, dilations, around, counts } = windowOf(attributes, kernel, [height, width]);
    const result = tensor(x.type, [...x.shape.slice(0, 2), ...counts]), planes = x.shape[0] * x.shape[1];
    for (let plane = 0, out = 0; plane < planes; plane++) {
      for (let p = 0; p < counts[0] * counts[1]; p++, out++) {
        let value = start, seen = 0, padded = 0;
        for (let k = 0; k < kernel[0] * kernel[1]; k++) {
          const y = Math.floor(p / counts[1]) * strides[0] + Math.floor(k / kernel[1]) * dilations[0] - around[0];
          const at = (p % counts[1]) * strides[1] + (k % kernel[1]) * dilations[1] - around[1];
          if (y < height + around[2] && at < width + around[3]) padded++;
          if (y < 0 || y >= height || at < 0 || at >= width) continue;
          value = step(value, x.data[(plane * height + y) * width + at]);
          seen++;
        }
        result.data[out] = end(value, attributes.count_include_pad ? padded : seen);
      }
    }
    return input.shape.length === 3 ? asLine(result) : result;
  };

  const maxPool = pooling(-Infinity, Math.max, (value) => value);
  const averagePool = pooling(0, (sum, value) => sum + value, (sum, count) => sum / count);
  const whole = (pool) => ([x]) => pool([x], { kernel_shape: x.shape.slice(2) });

  const NEAREST = {
    floor: Math.floor,
    ceil: Math.ceil,
    round_prefer_floor: (x) => Math.ceil(x - 0.5),
    round_prefer_ceil: (x) => Math.floor(x + 0.5),
  };

  /** The place in the input, a real number, of each place of an output of `count`. */
  function sources(length, count, scale, mode) {
    const place = {
      asymmetric: (i) => i / scale,
      half_pixel: (i) => (i + 0.5) / scale - 0.5,
      pytorch_half_pixel: (i) => (count > 1 ? (i + 0.5) / scale - 0.5 : 0),
      align_corners: (i) => (count > 1 ? (i * (length - 1)) / (count - 1) : 0),
    }[mode];
    return counted(count).map(place);
  }

  const bounded = (i, length) => Math.min(length - 1, Math.max(0, i));

  /** Nearest pixels or linear interpolation, along one dimension after the other. */
  function resize([input, , scales, sizes], attributes) {
    const { mode = "nearest", coordinate_transformation_mode: where = "half_pixel" } = attributes;
    const round = NEAREST[attributes.nearest_mode || "round_prefer_floor"];
    const axes = attributes.axes || counted(input.shape.length);
    return axes.reduce((x, d, k) => {
      const length = x.shape[d], count = sizes && sizes.data.length ? sizes.data[k] : Math.floor(length * scales.data[k]);
      if (count === length) return x;
      const scale = sizes && sizes.data.length ? count / length : scales.data[k];
      const places = sources(length, count, scale, where);
      const at = (of) => taken(x, x.shape.map((n, e) => (e === d ? places.map((p) => bounded(of(p), length)) : counted(n))));
      if (mode === "nearest") return at(round);
      const inner = size(x.shape.slice(d + 1)), low = at(Math.floor), high = at((p) => Math.floor(p) + 1);
      for (let i = 0; i < low.data.length; i++) {
        const p = places[Math.floor(i / inner) % count], share = p - Math.floor(p);
        low.data[i] += share * (high.data[i] - low.data[i]);
      }
      return low;
    }, input);
  }

  lfm.pictureOperators = {
    Conv: conv,
    ConvTranspose: convTranspose,
    MaxPool: maxPool,
    AveragePool: averagePool,
    GlobalMaxPool: whole(maxPool),
    GlobalAveragePool: whole(averagePool),
    Resize: resize,
  };
})((globalThis.lfm ??= {}));
