// What colour each row of the map has: a number of a table of markers for each row, and the legend of that table.
(function (lfm) {
  "use strict";

  const LEVELS = 64;
  const CROWD = 6000;

  // The categories in the order of their codes; where there are more than markers, the rarest share one.
  function byCategory(values, colour, palette) {
    const counts = new Array(colour.labels.length).fill(0);
    let missing = 0;
    for (const code of values) code >= 0 && code < counts.length ? counts[code]++ : missing++;
    const room = lfm.palette.distinct;
    const order = counts.map((_, code) => code);
    const own = new Set(
      order
        .slice()
        .sort((a, b) => counts[b] - counts[a])
        .slice(0, room),
    );
    const markers = [];
    const entries = [];
    const slot = new Map();
    for (const code of order.filter((code) => own.has(code))) {
      slot.set(code, markers.length);
      entries.push({ text: String(colour.labels[code]), codes: [code], count: counts[code], marker: markers.length });
      markers.push(lfm.palette.category(markers.length, palette, values.length > CROWD));
    }
    const rest = markers.push({ rgb: palette.faint, shape: "disc" }) - 1;
    const others = order.filter((code) => !own.has(code));
    if (others.length) {
      const count = others.reduce((sum, code) => sum + counts[code], 0);
      entries.push({ text: `${others.length} others`, codes: others, count, marker: rest });
    }
    if (missing) entries.push({ text: "missing", codes: [], count: missing, marker: rest });
    const codes = Uint8Array.from(values, (code) => slot.get(code) ?? rest);
    return { codes, markers, entries, missing };
  }

  function byNumber(values, colour, palette, dark) {
    const markers = Array.from({ length: LEVELS }, (_, at) => ({
      rgb: lfm.palette.ramp(at / (LEVELS - 1), dark),
      shape: "disc",
    }));
    markers.push({ rgb: palette.faint, shape: "ring" });
    const range = colour.high - colour.low || 1;
    let missing = 0;
    const codes = Uint8Array.from(values, (value) => {
      if (!isFinite(value)) return (missing++, LEVELS);
      return Math.min(LEVELS - 1, Math.max(0, Math.floor(((value - colour.low) / range) * LEVELS)));
    });
    return { codes, markers, entries: null, missing };
  }

  // {colour, values}: numbers get the range that holds all but the outermost hundredth on each side.
  lfm.withRange = function (colour, values) {
    if (colour.kind === "category") return { colour, values };
    const sorted = Float32Array.from(values.filter(isFinite)).sort();
    const at = (share) => sorted[Math.round(share * (sorted.length - 1))] ?? 0;
    return { colour: { ...colour, low: at(0.01), high: at(0.99) }, values };
  };

  // `colour` is an entry of info.colours, or null: then all rows have the colour of the accent.
  lfm.colouring = function (values, colour, rows) {
    const palette = lfm.theme.colours();
    if (!colour || !values)
      return { codes: new Uint8Array(rows), markers: [{ rgb: palette.accent, shape: "disc" }], entries: null };
    if (colour.kind === "category") return byCategory(values, colour, palette);
    return byNumber(values, colour, palette, lfm.theme.dark());
  };
})((window.lfm = window.lfm || {}));
