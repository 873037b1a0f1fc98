// Operators of ONNX on pictures (rows, channels, height, width): convolutions, pooling, resizing. lfm.graph uses them.
// Lines (rows, channels, length) are pictures of height 1.
(function (lfm) {
  "use strict";

  const { size, tensor, reshaped, transposed } = lfm.tensors;
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

  /**
   * The pixels p of a picture (height, width) for which stride · p + shift lies in another (rows, columns), line by line:
   * calls visit(first p, first place in the other, how many).
   */
  function eachPair([height, width], [rows, columns], [sy, sx], [dy, dx], visit) {
    const [top, bottom] = inside(sy, dy, rows, height), [left, right] = inside(sx, dx, columns, width);
    for (let y = top; y <= bottom; y++) {
      const at = y * width + left, line = (y * sy + dy) * columns + left * sx + dx;
      if (right >= left) visit(at, line, right - left + 1);
    }
  }

  /** How far the pixels that a place k of the kernel sees are shifted. */
  const shiftOf = (k, kernel, { dilations, around }) => [
    Math.floor(k / kernel[1]) * dilations[0] - around[0], (k % kernel[1]) * dilations[1] - around[1],
  ];

  /** The result of a convolution, filled with the bias of each channel. */
  function biased(x, depth, counts, bias) {
    const result = tensor(x.type, [x.shape[0], depth, ...counts]), area = size(counts);
    for (let plane = 0; bias && plane < x.shape[0] * depth; plane++) {
      result.data.fill(bias.data[plane % depth], plane * area, (plane + 1) * area);
    }
    return result;
  }

  /** What each place of the kernel sees, a line a place and channel: the convolution is a product of matrices. */
  function seen(source, from, share, picture, kernel, moves) {
    const area = size(moves.counts), places = size(kernel), own = size(picture), [, step] = moves.strides;
    const lines = new Float32Array(share * places * area);
    for (let line = 0; line < share * places; line++) {
      const start = from + Math.floor(line / places) * own, out = line * area;
      eachPair(moves.counts, picture, moves.strides, shiftOf(line % places, kernel, moves), (to, at, count) => {
        for (let i = 0; i < count; i++) lines[out + to + i] = source[start + at + i * step];
      });
    }
    return lines;
  }

  function conv([input, weights, bias], attributes) {
    const x = asPicture(input), w = asPicture(weights), kernel = w.shape.slice(2), groups = attributes.group || 1;
    const [rows, channels, ...picture] = x.shape, [depth, share] = w.shape, each = depth / groups;
    const moves = windowOf(attributes, kernel, picture), area = size(moves.counts), inner = share * size(kernel);
    const result = biased(x, depth, moves.counts, bias);
    for (let row = 0; row < rows; row++) {
      for (let g = 0; g < groups; g++) {
        const lines = seen(x.data, (row * channels + g * share) * size(picture), share, picture, kernel, moves);
        const to = (row * depth + g * each) * area;
        lfm.addProduct(w.data, g * each * inner, lines, 0, result.data, to, each, area, inner);
      }
    }
    return input.shape.length === 3 ? asLine(result) : result;
  }

  /** The size of the picture that a transposed convolution makes. */
  function transposedMoves(attributes, kernel, picture) {
    const strides = pair(attributes.strides, 1), dilations = pair(attributes.dilations, 1), around = pads(attributes.pads);
    const extra = pair(attributes.output_padding, 0);
    const counts = kernel.map((width, d) =>
      strides[d] * (picture[d] - 1) + extra[d] + (width - 1) * dilations[d] + 1 - around[d] - around[d + 2]);
    return { strides, dilations, around, counts };
  }

  function convTranspose([input, weights, bias], attributes) {
    const x = asPicture(input), w = asPicture(weights), kernel = w.shape.slice(2), groups = attributes.group || 1;
    const [rows, channels, ...picture] = x.shape, share = channels / groups, each = w.shape[1], places = size(kernel);
    const moves = transposedMoves(attributes, kernel, picture), own = size(picture), area = size(moves.counts);
    const result = biased(x, each * groups, moves.counts, bias), [, step] = moves.strides, target = result.data;
    const flat = transposed(reshaped(w, [groups, share, each * places]), [0, 2, 1]).data, inner = each * places;
    for (let part = 0; part < rows * groups; part++) {
      const lines = new Float64Array(inner * own);
      lfm.addProduct(flat, (part % groups) * inner * share, x.data, part * share * own, lines, 0, inner, own, share);
      for (let line = 0; line < inner; line++) {
        const start = (part * each + Math.floor(line / places)) * area;
        eachPair(picture, moves.counts, moves.strides, shiftOf(line % places, kernel, moves), (at, to, count) => {
          for (let i = 0; i < count; i++) target[start + to + i * step] += lines[line * own + at + i];
        });
      }
    }
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
})((globalThis.lfm = globalThis.lfm || {}));
