// lfm.exportedSource: answers what the page asks from what the page holds itself, without a server.
(function (lfm) {
  "use strict";

  const tensorOf = (type, shape, values) => lfm.tensors.tensor(type, shape, lfm.tensors.ARRAYS[type].from(values));

  /** The point, covariates and labels as inputs of the decoder. */
  function decoderOf(payload, arrays) {
    const graph = lfm.graph(payload.decoder, arrays), { covariates, labels, answers, info } = payload;
    const views = lfm.exportedViews(info.views, payload.views);
    const kept = Object.fromEntries(info.covariates.map(({ name, value }) => [name, value]));

    function decode({ z, covariates: given = {}, labels: codes = {} }) {
      if (z.length !== info.factors.length || !z.every(Number.isFinite)) {
        throw new Error(`A point must have ${info.factors.length} numbers.`);
      }
      const held = { ...kept, ...given };
      const values = { z, covariates: covariates.entries.map(({ name }) => held[name]) };
      for (const name of labels.names) values[`label.${name}`] = [codes[name] ?? labels.otherwise[name]].flat();
      const feeds = graph.inputs.map(({ name, type, shape }) =>
        [name, tensorOf(type, [1, ...shape.slice(1)], values[name])]);
      const outputs = graph.run(Object.fromEntries(feeds));
      const likelihoods = lfm.likelihoods(outputs, answers, info.levels);
      const point = outputs.point ? Array.from(outputs.point.data) : Array.from(z);
      return { views: views.map((view) => view.decoded(likelihoods)), z: point };
    }
    return { decode, views };
  }

  /** The posterior of a row {variable: values}; null where the page has no encoder. */
  function encoderOf(payload, arrays) {
    if (!payload.encoder) return null;
    const graph = lfm.graph(payload.encoder, arrays), count = payload.info.factors.length;
    return function (row) {
      const feeds = graph.inputs.map(({ name, type, shape }) => [name, tensorOf(type, [1, ...shape.slice(1)], row[name])]);
      const outputs = graph.run(Object.fromEntries(feeds));
      const covariance = Array.from({ length: count }, (_, k) =>
        Array.from(outputs.covariance.data.subarray(k * count, (k + 1) * count)));
      const labels = Object.fromEntries(payload.labels.shown.map((name) => {
        const probabilities = outputs[`label.${name}`].data;
        return [name, probabilities.length > 1 ? probabilities.indexOf(Math.max(...probabilities)) : Number(probabilities[0] > 0.5)];
      }));
      return { z: Array.from(outputs.z.data), covariance, labels };
    };
  }

  /** A row of missing values, {variable: values}. */
  const emptyRow = ({ variables }) => Object.fromEntries(Object.entries(variables).map(([name, shape]) =>
    [name, new Float64Array(lfm.tensors.size(shape)).fill(NaN)]));

  /** Raises what the model cannot read: gaps in a variable that must be whole, or a row without any value. */
  function checkGaps(row, { complete, covariates }) {
    const held = new Set(covariates.entries.map(({ variable }) => variable));
    const seen = Object.keys(row).filter((name) => !held.has(name));
    if (seen.every((name) => row[name].every(Number.isNaN))) throw new Error("A row must have at least one value.");
    for (const name of complete) {
      if (row[name].some(Number.isNaN)) throw new Error(`${name} must have all its values; some are missing.`);
    }
  }

  function answersOf(payload, arrays) {
    const { info, rows, covariates, labels } = payload, count = info.factors.length;
    const { decode, views } = decoderOf(payload, arrays), encodeRow = encoderOf(payload, arrays);
    const latents = arrays.numbers(payload.points.latents), colours = new Map();
    const attributes = payload.attributes && lfm.exportedAttributes(payload.attributes, info, arrays);
    const texts = rows.csv ? lfm.chosenRows.lines(arrays.text(rows.csv)) : null;

    const valuesOf = (place) => {
      if (!colours.has(place)) colours.set(place, arrays.numbers(payload.colours[place]));
      return colours.get(place);
    };
    const inlined = (row) => Object.fromEntries(Object.entries(rows.variables).map(([name, reference]) =>
      [name, arrays.line(reference, row)]));
    const codesOf = (row, names, reference) => {
      const line = reference ? arrays.line(reference, row) : [];
      return Object.fromEntries(names.map((name, k) => [name, line[k]]).filter(([, value]) => value !== undefined));
    };

    function shown(row, z, covariance, held, codes) {
      const decoded = decode({ z, covariates: held, labels: codes });
      const original = row ? views.map((view) => view.original(row)) : null;
      return { views: decoded.views, original, z, covariance, covariates: held, labels: codes, attributes: attributes ? attributes.read(z) : {}, colours: {} };
    }

    function row(place) {
      const own = place < rows.count ? inlined(place) : null, posterior = own && encodeRow ? encodeRow(own) : null;
      const z = Array.from(latents.subarray(place * count, (place + 1) * count));
      const held = codesOf(place, covariates.entries.map(({ name }) => name), covariates.rows);
      const codes = posterior ? posterior.labels : codesOf(place, labels.shown, labels.rows);
      const answer = shown(own, z, posterior ? posterior.covariance : null, held, codes);
      for (let k = 0; k < payload.known; k++) {
        const value = valuesOf(k)[place];
        answer.colours[info.colours[k].name] = Number.isFinite(value) ? value : null;
      }
      return answer;
    }

    function encode({ views: given, covariates: held = {} }) {
      const row = emptyRow(payload);
      given.forEach((values, place) => views[place].read(Array.from(values, (value) => value ?? NaN), row));
      const all = Object.fromEntries(covariates.entries.map(({ name, value }) => [name, held[name] ?? value]));
      for (const { name, variable, entry } of covariates.entries) row[variable][entry] = all[name];
      checkGaps(row, payload);
      const { z, covariance, labels: codes } = encodeRow(row);
      return shown(row, z, covariance, all, codes);
    }

    function generate({ attributes: targets, n = 8, seed = 0 }) {
      const { points, message } = attributes.generate(targets, n, seed);
      return { rows: points.map((z) => decode({ z })), message };
    }

    /** A row of the data, a point, or a row in views, with some attributes changed. */
    function edit(given, targets) {
      const own = given.z ? given : given.views ? encode(given) : row(given.row);
      const values = (view) => view.mean || view.cells.map(({ mean, probabilities: p }) => mean ?? p.indexOf(Math.max(...p)));
      const back = (z) => encode({ views: decode({ ...own, z }).views.map(values), covariates: own.covariates }).z;
      const { z, before, after } = attributes.edit(own.z, targets, encodeRow && !labels.shown.length ? back : null);
      return { ...decode({ ...own, z }), before, after, message: null };
    }

    function csv(chosen) {
      const places = Array.from(chosen), last = places.find((place) => place >= rows.count);
      if (last !== undefined) {
        throw new Error(`This page holds the data of rows 0 to ${rows.count - 1}, not of row ${last}: run the explorer.`);
      }
      if (texts) return [texts[0], ...places.map((place) => texts[place + 1])].join("");
      return lfm.chosenRows.csvOf(rows.names, inlined, places);
    }

    function summary(chosen) {
      const columns = info.colours.slice(0, payload.known).map((colour, k) => ({ ...colour, values: valuesOf(k) }));
      return lfm.chosenRows.summary(columns, Array.from(chosen));
    }

    return {
      points: () => ({ latents, learned: payload.points.learned && arrays.numbers(payload.points.learned) }),
      colour: (name) => ({ values: valuesOf(info.colours.findIndex((colour) => colour.name === name)) }),
      decode, row, encode, csv, summary, generate, edit,
    };
  }

  /** A source, as lfm.start takes it, of what a page holds: see pyro_lfm/explorer/exported/page_payload.py. */
  lfm.exportedSource = function (payload) {
    const answers = lfm.arrays.unpacked(payload.block).then((block) => answersOf(payload, lfm.arrays(block)));
    const ask = (name) => async (...given) => (await answers)[name](...given);
    const names = ["points", "colour", "decode", "row", "encode", "csv", "summary", "generate", "edit"];
    return {
      can: new Set(payload.can),
      info: async () => payload.info,
      ...Object.fromEntries(names.map((name) => [name, ask(name)])),
    };
  };
})((globalThis.lfm = globalThis.lfm || {}));
