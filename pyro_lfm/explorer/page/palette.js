// Colours that people with colour-blindness can tell apart: Okabe and Ito's for categories, viridis for numbers.
(function (lfm) {
  "use strict";

  // Okabe and Ito (2008). Their black is "ink", so that it shows on dark paper too.
  const OKABE_ITO = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#f0e442", "ink"];
  // Viridis (Smith and van der Walt, 2015) at eleven even places.
  const VIRIDIS = ["#440154", "#482475", "#414487", "#355f8d", "#2a788e", "#21918c", "#22a884", "#44bf70", "#7ad151",
    "#bddf26", "#fde725"];
  const SHAPES = ["disc", "ring", "cross", "square"];

  const channels = (hex) => [1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16));
  const css = (rgb) => `rgb(${rgb.map(Math.round).join(",")})`;

  // The colour of a number between 0 and 1.
  function viridis(share) {
    const place = Math.min(1, Math.max(0, share)) * (VIRIDIS.length - 1);
    const start = Math.min(VIRIDIS.length - 2, Math.floor(place));
    const [from, to] = [channels(VIRIDIS[start]), channels(VIRIDIS[start + 1])];
    return from.map((value, c) => value + (to[c] - value) * (place - start));
  }

  // The part of viridis that stands out from the paper: no yellow on white, no violet on black.
  const ramp = (share, dark) => viridis(dark ? 0.14 + 0.86 * share : 0.93 * share);

  // Category number `place` has a colour, and, as eight colours do not last for ever, a shape.
  function category(place, ink) {
    const name = OKABE_ITO[place % OKABE_ITO.length];
    return {
      rgb: name === "ink" ? ink : channels(name),
      shape: SHAPES[Math.floor(place / OKABE_ITO.length) % SHAPES.length],
    };
  }

  lfm.palette = { viridis, ramp, category, css, shapes: SHAPES, distinct: OKABE_ITO.length * SHAPES.length };
})((window.lfm = window.lfm || {}));
