// Colours that people with colour-blindness can tell apart: Okabe and Ito's for categories, viridis for numbers.
(function (lfm) {
  "use strict";

  // Okabe and Ito (2008). Their black is "ink", so that it shows on dark paper too.
  const OKABE_ITO = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#f0e442", "ink"];
  // Viridis (Smith and van der Walt, 2015) at eleven even places.
  const VIRIDIS = [
    "#440154",
    "#482475",
    "#414487",
    "#355f8d",
    "#2a788e",
    "#21918c",
    "#22a884",
    "#44bf70",
    "#7ad151",
    "#bddf26",
    "#fde725",
  ];
  const SHAPES = ["disc", "ring", "cross", "square"];
  // Points of a crowd are too small for shapes: there a second round is shaded, in an order that keeps neighbours apart.
  const SHADED = [2, 5, 3, 0, 1, 4, 6, 7];

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

  // Category number `place` has a colour and, as eight colours do not last for ever, a shape; in a crowd a shade.
  function category(place, { ink, plot }, crowd) {
    const round = Math.floor(place / OKABE_ITO.length) % SHAPES.length;
    const colour = place % OKABE_ITO.length;
    const name = OKABE_ITO[crowd && round ? SHADED[colour] : colour];
    const rgb = name === "ink" ? ink : channels(name);
    if (!crowd) return { rgb, shape: SHAPES[round] };
    // Away from the paper: darker on white, lighter on black.
    const away = plot.map((value) => (value > 127 ? 0 : 255));
    return { rgb: rgb.map((value, c) => value + (away[c] - value) * 0.27 * round), shape: "disc" };
  }

  lfm.palette = { viridis, ramp, category, css, distinct: OKABE_ITO.length * SHAPES.length };
})((window.lfm = window.lfm || {}));
