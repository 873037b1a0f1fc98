// From latent points to the axes of the map, and back: two or three factors, principal axes, or a learned plane.
(function (lfm) {
  "use strict";

  const NEIGHBOURS = 8;

  // The range that holds all but the outermost 1 in 500 on each side; outliers lie outside of the first view.
  function range(values) {
    const sorted = Float64Array.from(values).sort();
    const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
    const [low, high] = [at(0.002), at(0.998)];
    return { centre: (low + high) / 2, half: (high - low) / 2 || 1 };
  }

  const column = (array, place, width) =>
    Float64Array.from({ length: array.length / width }, (_, i) => array[i * width + place]);

  // Coordinates (N * d) in which that range is -1..1 on each axis, or on the longest if the axes share a unit.
  function normalised(raw, dimensions, common) {
    const ranges = Array.from({ length: dimensions }, (_, axis) => range(column(raw, axis, dimensions)));
    const longest = Math.max(...ranges.map(({ half }) => half));
    if (common) ranges.forEach((axis) => (axis.half = longest));
    const coordinates = new Float32Array(raw.length);
    for (let entry = 0; entry < raw.length; entry++) {
      const axis = ranges[entry % dimensions];
      coordinates[entry] = (raw[entry] - axis.centre) / axis.half;
    }
    return { coordinates, ranges };
  }

  function dot(a, b, offset = 0) {
    let sum = 0;
    for (let k = 0; k < a.length; k++) sum += a[k] * b[offset + k];
    return sum;
  }

  // A map y = R (z - m), with orthonormal rows R. Going back, z keeps all that the axes do not show.
  function linear(rows, mean, names, latents, common) {
    const [dimensions, K] = [rows.length, mean.length];
    const raw = new Float64Array((latents.length / K) * dimensions);
    const shift = rows.map((row) => dot(row, mean));
    for (let entry = 0; entry < raw.length; entry++) {
      const axis = entry % dimensions;
      raw[entry] = dot(rows[axis], latents, Math.floor(entry / dimensions) * K) - shift[axis];
    }
    const { coordinates, ranges } = normalised(raw, dimensions, common);
    const forward = (z) =>
      rows.map((row, axis) => (dot(row, z) - shift[axis] - ranges[axis].centre) / ranges[axis].half);
    function inverse(target, z) {
      const moves = forward(z).map((value, axis) => (target[axis] - value) * ranges[axis].half);
      return z.map((value, k) => value + rows.reduce((sum, row, axis) => sum + row[k] * moves[axis], 0));
    }
    function covariance(matrix) {
      const scaled = rows.map((row, axis) => row.map((value) => value / ranges[axis].half));
      const half = scaled.map((row) => matrix.map((line) => dot(line, row)));
      return half.map((line) => scaled.map((row) => dot(row, line)));
    }
    const value = (axis, place) => place * ranges[axis].half + ranges[axis].centre;
    return { dimensions, names, coordinates, forward, inverse, covariance, value, stretch: !common };
  }

  // One factor alone: the second axis spreads the rows as widely as their density, and means nothing.
  function single(factor, latents) {
    const line = linear([[1]], [0], [factor], latents, false);
    const bins = new Float64Array(64);
    const bin = (x) => Math.min(63, Math.max(0, Math.floor((x + 1) * 32)));
    line.coordinates.forEach((x) => bins[bin(x)]++);
    const most = bins.reduce((a, b) => Math.max(a, b), 1);
    const coordinates = new Float32Array(2 * line.coordinates.length);
    line.coordinates.forEach((x, i) => {
      const spread = ((i * 0.6180339887) % 1) * 2 - 1;
      coordinates.set([x, 0.85 * spread * (bins[bin(x)] / most)], 2 * i);
    });
    return {
      ...line,
      dimensions: 2,
      names: [factor, ""],
      coordinates,
      forward: (z) => [line.forward(z)[0], 0],
      inverse: (target, z) => line.inverse([target[0]], z),
      covariance: (matrix) => [
        [line.covariance(matrix)[0][0], 0],
        [0, 0],
      ],
    };
  }

  // The nearest entries of a table (N * width) to a point, with weights by inverse squared distance.
  function nearest(table, width, point) {
    const closest = [];
    for (let row = 0; row < table.length / width; row++) {
      let distance = 0;
      for (let k = 0; k < width; k++) distance += (table[row * width + k] - point[k]) ** 2;
      if (closest.length === NEIGHBOURS && distance >= closest[NEIGHBOURS - 1].distance) continue;
      closest.push({ row, distance });
      closest.sort((a, b) => a.distance - b.distance).splice(NEIGHBOURS);
    }
    const weights = closest.map(({ distance }) => 1 / (distance + 1e-12));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return closest.map(({ row }, place) => ({ row, weight: weights[place] / total }));
  }

  // A learned plane has no formula: points between the rows are weighted means of their neighbours, both ways.
  function learned(plane, latents, K) {
    const { coordinates } = normalised(plane, 2, true);
    const mean = (table, width, neighbours) =>
      Array.from({ length: width }, (_, k) =>
        neighbours.reduce((sum, { row, weight }) => sum + weight * table[row * width + k], 0),
      );
    return {
      dimensions: 2,
      names: ["", ""],
      coordinates,
      stretch: false,
      value: null,
      forward: (z) => mean(coordinates, 2, nearest(latents, K, z)),
      inverse: (target) => mean(latents, K, nearest(coordinates, 2, target)),
      covariance: () => null,
    };
  }

  const named = (name, share) => (share === null || share === undefined ? name : `${name} · ${lfm.percent(share)}`);

  // The projection that `map` asks for: {kind, dimensions, axes}.
  lfm.projection = function (info, points, map) {
    const K = info.factors.length;
    if (map.kind === "learned") return learned(points.learned, points.latents, K);
    if (map.kind === "pca") {
      const axes = info.pca.axes.slice(0, map.dimensions);
      const names = axes.map((_, axis) => named(`PC ${axis + 1}`, info.pca.shares[axis]));
      return linear(axes, info.pca.mean, names, points.latents, true);
    }
    const name = (k) => named(info.factors[k].name, info.factors[k].share);
    if (K === 1) return single(name(0), points.latents);
    const axes = map.axes.slice(0, map.dimensions);
    const rows = axes.map((axis) => Array.from({ length: K }, (_, k) => (k === axis ? 1 : 0)));
    return linear(rows, new Array(K).fill(0), axes.map(name), points.latents, false);
  };

  // The maps that a fit has: [{kind, dimensions, title}].
  lfm.projections = function (info, points) {
    const K = info.factors.length;
    const principal = info.pca ? info.pca.axes.length : 0;
    return [
      { kind: "factors", dimensions: 2, title: K > 1 ? "Two factors" : "One factor" },
      K > 2 && { kind: "factors", dimensions: 3, title: "Three factors, 3-D" },
      principal > 1 && { kind: "pca", dimensions: 2, title: "Principal axes" },
      principal > 2 && { kind: "pca", dimensions: 3, title: "Principal axes, 3-D" },
      (points.learned || info.learned) && { kind: "learned", dimensions: 2, title: "Learned plane" },
    ].filter(Boolean);
  };
})((window.lfm = window.lfm || {}));
