// Draws many points as pixels of one image, without a graphics card: 60,000 in a few milliseconds.
(function (lfm) {
  "use strict";

  const DEPTHS = 64;

  // The pixels of a marker: [dx, dy, coverage of 256], for a radius in pixels.
  function stamp(shape, radius) {
    const reach = Math.ceil(radius);
    const pixels = [];
    const soft = (distance) => Math.min(1, Math.max(0, distance + 0.5));
    const coverage = {
      disc: (dx, dy) => soft(radius - Math.hypot(dx, dy)),
      ring: (dx, dy) => soft(radius - Math.hypot(dx, dy)) * soft(Math.hypot(dx, dy) - 0.45 * radius),
      cross: (dx, dy) =>
        soft(0.22 * radius - Math.min(Math.abs(dx), Math.abs(dy))) *
        soft(radius - Math.max(Math.abs(dx), Math.abs(dy))),
      square: (dx, dy) => soft(0.8 * radius - Math.max(Math.abs(dx), Math.abs(dy))),
    }[shape];
    for (let dy = -reach; dy <= reach; dy++) {
      for (let dx = -reach; dx <= reach; dx++) {
        const share = Math.round(256 * coverage(dx, dy));
        if (share > 0) pixels.push(dx, dy, share);
      }
    }
    return Int16Array.from(pixels);
  }

  // Rows from the farthest to the nearest, by counting; and the depth of each, 0 to DEPTHS - 1.
  function byDepth(order, depth) {
    let [low, high] = [Infinity, -Infinity];
    for (const value of depth) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    const level = new Uint8Array(depth.length);
    const starts = new Uint32Array(DEPTHS + 1);
    for (let row = 0; row < depth.length; row++) {
      level[row] = high > low ? Math.min(DEPTHS - 1, ((depth[row] - low) / (high - low)) * DEPTHS) : DEPTHS - 1;
      starts[level[row] + 1]++;
    }
    for (let at = 0; at < DEPTHS; at++) starts[at + 1] += starts[at];
    const sorted = new Uint32Array(order.length);
    for (const row of order) sorted[starts[level[row]]++] = row;
    return { sorted, level };
  }

  // A fixed order without meaning, so that no category, last in the file, hides the others.
  function shuffled(count) {
    const order = Uint32Array.from({ length: count }, (_, row) => row);
    let seed = 12345;
    for (let at = count - 1; at > 0; at--) {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      const other = seed % (at + 1);
      [order[at], order[other]] = [order[other], order[at]];
    }
    return order;
  }

  // How large and how opaque points are: fewer are larger, and all grow a little with the zoom.
  function radius(count, zoom, ratio) {
    const base = Math.min(4.2, Math.max(1.15, 11 / Math.pow(count, 0.19) - 0.25));
    return Math.min(7, base * Math.pow(Math.max(zoom, 0.5), 0.3)) * ratio;
  }

  // Blends one marker into the image. Opacity is of 256.
  function blend(data, width, height, cx, cy, pixels, r, g, b, opacity) {
    for (let at = 0; at < pixels.length; at += 3) {
      const x = cx + pixels[at];
      const y = cy + pixels[at + 1];
      if (x < 0 || y < 0 || x >= width || y >= height) continue;
      const share = (pixels[at + 2] * opacity) >> 8;
      const p = 4 * (y * width + x);
      data[p] += ((r - data[p]) * share) >> 8;
      data[p + 1] += ((g - data[p + 1]) * share) >> 8;
      data[p + 2] += ((b - data[p + 2]) * share) >> 8;
    }
  }

  // cloud: {x, y, depth or null, order, codes (Uint8, an entry of the table of markers), markers: [{rgb, shape}],
  // selected (Uint8 or null), radius, opacity, paper: [r, g, b]}
  function draw(image, cloud) {
    const { width, height } = image;
    const { x, y, codes, markers, selected, paper } = cloud;
    const data = image.data;
    new Uint32Array(data.buffer).fill((255 << 24) | (paper[2] << 16) | (paper[1] << 8) | paper[0]);
    const { sorted, level } = cloud.depth ? byDepth(cloud.order, cloud.depth) : { sorted: cloud.order, level: null };
    const sizes = level ? [0.75, 1, 1.3] : [1];
    const stamps = markers.map(({ shape }) => sizes.map((size) => stamp(shape, cloud.radius * size)));
    const margin = Math.ceil(cloud.radius * 1.5);
    // What is selected lies over what is not.
    for (const pass of selected ? [0, 1] : [1]) {
      for (const row of sorted) {
        if (selected && selected[row] !== pass) continue;
        const cx = Math.round(x[row]);
        const cy = Math.round(y[row]);
        if (!(cx > -margin && cy > -margin && cx < width + margin && cy < height + margin)) continue;
        const near = level ? level[row] / (DEPTHS - 1) : 1;
        const size = level ? Math.min(2, Math.floor(near * 3)) : 0;
        const opacity = cloud.opacity * (level ? 0.3 + 0.7 * near : 1) * (pass ? 1 : 0.13);
        const { rgb } = markers[codes[row]];
        blend(data, width, height, cx, cy, stamps[codes[row]][size], rgb[0], rgb[1], rgb[2], Math.round(256 * opacity));
      }
    }
  }

  // The row nearest to a place on the screen, if one lies within `reach` pixels; otherwise -1.
  function nearest(x, y, [px, py], reach) {
    let [best, least] = [-1, reach * reach];
    for (let row = 0; row < x.length; row++) {
      const distance = (x[row] - px) ** 2 + (y[row] - py) ** 2;
      if (distance <= least) {
        best = row;
        least = distance;
      }
    }
    return best;
  }

  // The rows inside a closed line of [x, y], by the even-odd rule.
  function inside(x, y, line) {
    const rows = [];
    for (let row = 0; row < x.length; row++) {
      let odd = false;
      for (let i = 0, j = line.length - 1; i < line.length; j = i++) {
        const a = line[i];
        const b = line[j];
        if (a[1] > y[row] !== b[1] > y[row] && x[row] < ((b[0] - a[0]) * (y[row] - a[1])) / (b[1] - a[1]) + a[0])
          odd = !odd;
      }
      if (odd) rows.push(row);
    }
    return Uint32Array.from(rows);
  }

  lfm.points = { draw, nearest, inside, shuffled, radius };
})((window.lfm = window.lfm || {}));
