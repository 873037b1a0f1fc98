// The state of the page as the hash of its address, so that a link restores it.
(function (lfm) {
  "use strict";

  const short = (value) => String(Number(Number(value).toPrecision(6)));
  const list = (values) => values.map(short).join(",");

  // An end of the interpolation is a row of the data, or a point.
  const endText = (end) => (end.row !== null ? String(end.row) : `z${list(end.z)}`);

  function write(state, info) {
    const hash = new URLSearchParams();
    const { subject, map } = state;
    if (subject && subject.row !== null) hash.set("row", subject.row);
    // The encoder gives the point of an unedited row again, to the last digit.
    if (!subject || subject.row === null || lfm.isEdited(state)) hash.set("z", list(state.z));
    for (const { name } of info.covariates) hash.set(`c.${name}`, short(state.covariates[name]));
    for (const { name } of info.labels) hash.set(`l.${name}`, short(state.labels[name]));
    for (const end of ["a", "b"]) if (state[end]) hash.set(end, endText(state[end]));
    if (state.a && state.b) hash.set("t", short(state.between));
    hash.set("map", `${map.kind}${map.dimensions}`);
    if (map.kind === "factors") hash.set("axes", list(map.axes.slice(0, map.dimensions)));
    if (map.dimensions === 3) hash.set("turn", list(map.turn));
    if (map.zoom !== 1 || map.centre.some(Boolean)) hash.set("view", list([map.zoom, ...map.centre]));
    if (state.colour !== null) hash.set("colour", state.colour);
    hash.set("tab", state.tab);
    if (state.selected) hash.set("rows", lfm.rowSets.write(state.selected, info.rows));
    return hash.toString();
  }

  // Numbers from "1,2,3", or null unless all are finite and as many as expected.
  function numbers(text, count) {
    if (text === null) return null;
    const values = text.split(",").map(Number);
    return values.length === count && values.every((value) => isFinite(value)) ? values : null;
  }

  function rowNumber(text, info) {
    const row = text === null || text === "" ? NaN : Number(text);
    return Number.isInteger(row) && row >= 0 && row < info.rows ? row : null;
  }

  function readMap(hash, info, map) {
    const [, kind, dimensions] = /^(factors|pca|learned)([23])$/.exec(hash.get("map") || "") || [];
    const result = { ...map };
    if (kind) Object.assign(result, { kind, dimensions: Number(dimensions) });
    const axes = numbers(hash.get("axes"), result.dimensions);
    if (
      axes &&
      new Set(axes).size === axes.length &&
      axes.every((axis) => Number.isInteger(axis) && axis in info.factors)
    ) {
      result.axes = [...axes, ...map.axes.slice(axes.length)];
    }
    result.turn = numbers(hash.get("turn"), 2) || map.turn;
    const view = numbers(hash.get("view"), 3);
    if (view && view[0] > 0) Object.assign(result, { zoom: view[0], centre: view.slice(1) });
    return result;
  }

  function readValues(hash, prefix, variables) {
    const values = {};
    for (const { name } of variables) {
      const [value] = numbers(hash.get(prefix + name), 1) || [null];
      if (value !== null) values[name] = value;
    }
    return values;
  }

  // What a hash says, each entry null where it says nothing that fits this fit. Rows are numbers still, not encoded.
  function read(text, info, state) {
    const hash = new URLSearchParams(text.replace(/^#/, ""));
    const end = (name) => {
      const written = hash.get(name);
      if (written === null) return null;
      if (written.startsWith("z")) return numbers(written.slice(1), info.factors.length);
      return rowNumber(written, info);
    };
    const colour = hash.get("colour");
    return {
      row: rowNumber(hash.get("row"), info),
      z: numbers(hash.get("z"), info.factors.length),
      covariates: readValues(hash, "c.", info.covariates),
      labels: readValues(hash, "l.", info.labels),
      a: end("a"),
      b: end("b"),
      between: (numbers(hash.get("t"), 1) || [0])[0],
      map: readMap(hash, info, state.map),
      colour: info.colours.some(({ name }) => name === colour) ? colour : state.colour,
      tab: hash.get("tab") || state.tab,
      selected: hash.get("rows") ? lfm.rowSets.read(hash.get("rows"), info.rows) : null,
    };
  }

  lfm.link = { write, read };
})((window.lfm = window.lfm || {}));
