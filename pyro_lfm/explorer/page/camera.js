// Where the points of a projection lie on the screen, for a zoom, a centre and, in 3-D, a turn. Orthographic.
(function (lfm) {
  "use strict";

  // Rows: to the right, upwards, and towards the eye.
  function rotation([yaw, pitch]) {
    const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    return [
      [cy, 0, sy],
      [sy * sp, cp, -cy * sp],
      [-sy * cp, sp, cy * cp],
    ];
  }

  // Width and height in pixels of the screen. `centre` is in the units of the projection, along the screen.
  lfm.camera = function (projection, map, width, height) {
    const flat = projection.dimensions === 2;
    const axes = flat
      ? [
          [1, 0],
          [0, 1],
        ]
      : rotation(map.turn);
    const least = (Math.min(width, height) / 2) * (flat ? 0.9 : 0.66);
    const stretch = flat && projection.stretch;
    const scale = [stretch ? width * 0.45 : least, stretch ? height * 0.45 : least].map((size) => size * map.zoom);
    const along = (axis, point) => axes[axis].reduce((sum, value, k) => sum + value * point[k], 0);

    function toScreen(point) {
      return [
        width / 2 + scale[0] * (along(0, point) - map.centre[0]),
        height / 2 - scale[1] * (along(1, point) - map.centre[1]),
      ];
    }

    // The point under a pixel at the depth of `reference`.
    function fromScreen([x, y], reference) {
      const moved = [
        (x - width / 2) / scale[0] + map.centre[0] - along(0, reference),
        (height / 2 - y) / scale[1] + map.centre[1] - along(1, reference),
      ];
      return reference.map((value, k) => value + axes[0][k] * moved[0] + axes[1][k] * moved[1]);
    }

    // All points at once, into arrays of x, y and, in 3-D, depth (nearer is larger).
    function projectAll(coordinates, x, y, depth) {
      const [offsetX, offsetY] = [width / 2 - scale[0] * map.centre[0], height / 2 + scale[1] * map.centre[1]];
      if (flat) {
        for (let i = 0; i < x.length; i++) {
          x[i] = offsetX + scale[0] * coordinates[2 * i];
          y[i] = offsetY - scale[1] * coordinates[2 * i + 1];
        }
        return;
      }
      const [[a, b, c], [d, e, f], [g, h, k]] = axes;
      for (let i = 0; i < x.length; i++) {
        const p = coordinates[3 * i];
        const q = coordinates[3 * i + 1];
        const r = coordinates[3 * i + 2];
        x[i] = offsetX + scale[0] * (a * p + b * q + c * r);
        y[i] = offsetY - scale[1] * (d * p + e * q + f * r);
        depth[i] = g * p + h * q + k * r;
      }
    }

    // A covariance in the units of the projection, in pixels of the screen.
    function covariance(matrix) {
      const rows = axes.slice(0, 2).map((row, axis) => row.map((value) => value * scale[axis] * (axis ? -1 : 1)));
      const half = rows.map((row) => matrix.map((line) => line.reduce((sum, value, k) => sum + value * row[k], 0)));
      return half.map((line) => rows.map((row) => row.reduce((sum, value, k) => sum + value * line[k], 0)));
    }

    return { width, height, scale, toScreen, fromScreen, projectAll, covariance };
  };

  // Half axes and angle of the ellipse that holds `level` of a normal distribution in the plane.
  lfm.ellipse = function ([[a, b], [, d]], level) {
    const radius = Math.sqrt(-2 * Math.log(1 - level));
    const [mean, gap] = [(a + d) / 2, Math.hypot((a - d) / 2, b)];
    const root = (value) => radius * Math.sqrt(Math.max(0, value));
    return { long: root(mean + gap), short: root(mean - gap), angle: 0.5 * Math.atan2(2 * b, a - d) };
  };
})((window.lfm = window.lfm || {}));
