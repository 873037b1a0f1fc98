// What lies over the points of the map: axes, the present point, posterior ellipses, the ends of an interpolation, a lasso.
(function (lfm) {
  "use strict";

  const FONT = "11px Inter, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans', Arial, sans-serif";

  function brush(canvas, ratio) {
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = FONT;
    context.lineJoin = context.lineCap = "round";
    return context;
  }

  // Text with a halo of paper, so that it reads over points.
  function write(context, text, x, y, colours, align = "left") {
    context.textAlign = align;
    context.lineWidth = 3;
    context.strokeStyle = colours.plot;
    context.strokeText(text, x, y);
    context.fillStyle = colours.muted;
    context.fillText(text, x, y);
  }

  // Ticks along the lower and the left edge, in the units of the latent space.
  function flatAxes(context, scene) {
    const { camera, projection, colours } = scene;
    const { width, height } = camera;
    const origin = projection.forward(scene.present);
    context.strokeStyle = colours.line;
    context.lineWidth = 1;
    const titles = projection.names;
    if (titles[0]) write(context, `${titles[0]} →`, width - 10, height - 24, colours, "right");
    if (titles[1]) write(context, `↑ ${titles[1]}`, 10, 18, colours);
    if (!projection.value) return;
    for (const axis of titles[1] ? [0, 1] : [0]) {
      const ends =
        axis === 0
          ? [
              [0, 0],
              [width, 0],
            ]
          : [
              [0, height],
              [0, 0],
            ];
      const [low, high] = ends.map((end) => projection.value(axis, camera.fromScreen(end, origin)[axis]));
      const { step, ticks } = lfm.ticks(low, high, axis === 0 ? Math.max(2, width / 90) : Math.max(2, height / 70));
      const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
      for (const tick of ticks) {
        const share = (tick - low) / (high - low);
        const text = (tick || 0).toFixed(decimals).replace("-", "\u2212");
        if (axis === 0) {
          const x = share * width;
          context.fillStyle = colours.faint;
          context.fillRect(x - 0.5, height - 5, 1, 5);
          if (x > 40 && x < width - 14) write(context, text, x, height - 9, colours, "center");
        } else {
          const y = height - share * height;
          context.fillStyle = colours.faint;
          context.fillRect(0, y - 0.5, 5, 1);
          if (y > 30 && y < height - 20) write(context, text, 9, y + 4, colours);
        }
      }
    }
  }

  // The box that holds the points, with the name of an axis at the end of each of three of its edges.
  function solidAxes(context, { camera, projection, colours }) {
    const corner = (bits) => camera.toScreen([0, 1, 2].map((axis) => (bits & (1 << axis) ? 1 : -1)));
    context.strokeStyle = colours.line;
    context.lineWidth = 1;
    context.beginPath();
    for (let bits = 0; bits < 8; bits++) {
      for (let axis = 0; axis < 3; axis++) {
        if (bits & (1 << axis)) continue;
        context.moveTo(...corner(bits));
        context.lineTo(...corner(bits | (1 << axis)));
      }
    }
    context.stroke();
    for (let axis = 0; axis < 3; axis++) {
      const end = [-1, -1, -1];
      end[axis] = 1.12;
      const [x, y] = camera.toScreen(end);
      const half = context.measureText(projection.names[axis]).width / 2 + 6;
      write(
        context,
        projection.names[axis],
        Math.max(half, Math.min(camera.width - half, x)),
        Math.max(14, Math.min(camera.height - 8, y)),
        colours,
        "center",
      );
    }
  }

  function ellipse(context, scene, encoded, strength) {
    const matrix = encoded.covariance && scene.projection.covariance(encoded.covariance);
    if (!matrix) return;
    const { long, short, angle } = lfm.ellipse(scene.camera.covariance(matrix), scene.level);
    // A posterior narrower than the marker of its row would only blot it.
    if (long < 9) return;
    context.beginPath();
    context.ellipse(
      ...scene.camera.toScreen(scene.projection.forward(encoded.z)),
      long,
      Math.max(short, 0.5),
      angle,
      0,
      2 * Math.PI,
    );
    for (const [colour, width] of [
      [scene.colours.plot, 3.5],
      [scene.colours.ink, 1.25],
    ]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.globalAlpha = strength;
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  function ring(context, [x, y], radius, colours, centre) {
    for (const [colour, width] of [
      [colours.plot, 5],
      [centre ? colours.accent : colours.ink, 2],
    ]) {
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.stroke();
    }
    if (!centre) return;
    context.beginPath();
    context.arc(x, y, 2, 0, 2 * Math.PI);
    context.fillStyle = colours.accent;
    context.fill();
  }

  function ends(context, scene) {
    const places = ["a", "b"].filter((end) => scene.ends[end]);
    const at = (end) => scene.camera.toScreen(scene.projection.forward(scene.ends[end].z));
    if (places.length === 2) {
      context.beginPath();
      context.moveTo(...at("a"));
      context.lineTo(...at("b"));
      context.strokeStyle = scene.colours.ink;
      context.lineWidth = 1;
      context.setLineDash([4, 4]);
      context.stroke();
      context.setLineDash([]);
    }
    for (const end of places) {
      const [x, y] = at(end);
      ring(context, [x, y], 4, scene.colours, false);
      write(context, end.toUpperCase(), x + 9, y - 6, { ...scene.colours, muted: scene.colours.ink });
    }
  }

  function lasso(context, line, colours) {
    context.beginPath();
    line.forEach((place, at) => (at ? context.lineTo(...place) : context.moveTo(...place)));
    context.closePath();
    context.fillStyle = colours.accent;
    context.globalAlpha = 0.12;
    context.fill();
    context.globalAlpha = 1;
    context.strokeStyle = colours.accent;
    context.lineWidth = 1.5;
    context.stroke();
  }

  // scene: {camera (in CSS pixels), projection, colours (CSS text), level, present, subject, hovered, ends, line}
  lfm.drawOverlay = function (canvas, ratio, scene) {
    const context = brush(canvas, ratio);
    (scene.projection.dimensions === 2 ? flatAxes : solidAxes)(context, scene);
    if (scene.subject) ellipse(context, scene, scene.subject, 0.9);
    if (scene.hovered) {
      if (scene.hovered.encoded) ellipse(context, scene, scene.hovered.encoded, 0.6);
      ring(context, scene.hovered.place, 5, scene.colours, false);
    }
    ends(context, scene);
    ring(context, scene.camera.toScreen(scene.projection.forward(scene.present)), 7, scene.colours, true);
    if (scene.line && scene.line.length > 1) lasso(context, scene.line, scene.colours);
  };
})((window.lfm = window.lfm || {}));
