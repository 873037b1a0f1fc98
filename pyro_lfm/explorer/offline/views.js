// lfm.exportedViews: rows and decoded rows as the page shows them, and the values of a view as a row of the model.
(function (lfm) {
  "use strict";

  /** The pixels with channels first, of (H, W, C); or back. */
  function channelsFirst(values, [channels, height, width], back = false) {
    const result = new Array(values.length), size = height * width;
    for (let pixel = 0; pixel < size; pixel++) {
      for (let c = 0; c < channels; c++) {
        const first = c * size + pixel, last = pixel * channels + c;
        if (back) result[last] = values[first];
        else result[first] = values[last];
      }
    }
    return result;
  }

  const shown = (value) => (Number.isFinite(value) ? value : null);

  function pictureView(view, { variable, last }) {
    const ordered = (values) => (last ? channelsFirst(values, view.shape) : values);
    return {
      decoded: (likelihoods) => ({
        mean: ordered(likelihoods.all(variable, "mean")),
        deviation: ordered(likelihoods.all(variable, "deviation")),
      }),
      original: (row) => ({ mean: ordered(Array.from(row[variable], shown)) }),
      read(values, row) {
        if (values.length !== row[variable].length) {
          throw new Error(`${view.name} must have ${row[variable].length} pixels; got ${values.length}.`);
        }
        row[variable].set(last ? channelsFirst(values, view.shape, true) : values);
      },
    };
  }

  function cell(likelihoods, { variable, entry, kind, loc, scale }) {
    const probabilities = likelihoods.probabilities(variable, entry);
    if (probabilities) return { probabilities };
    const mean = likelihoods.mean(variable, entry);
    if (kind === "category") return { probabilities: [1 - mean, mean] };
    const [low, high] = likelihoods.interval(variable, entry).map((end) => shown(end * scale + loc));
    return { mean: shown(mean * scale + loc), low, high };
  }

  function columnsView(view, { columns }) {
    return {
      decoded: (likelihoods) => ({ cells: columns.map((column) => cell(likelihoods, column)) }),
      original: (row) => ({
        cells: columns.map(({ variable, entry, loc, scale }) => ({ value: shown(row[variable][entry] * scale + loc) })),
      }),
      read(values, row) {
        if (values.length !== columns.length) {
          throw new Error(`A row must have ${columns.length} columns; got ${values.length}.`);
        }
        columns.forEach((column, place) => {
          checked(values[place], view.columns[place]);
          row[column.variable][column.entry] = (values[place] - column.loc) / column.scale;
        });
      },
    };
  }

  /** Values that no row can have are refused in words. */
  function checked(value, { name, kind, labels }) {
    if (Number.isNaN(value)) return;
    const whole = Number.isInteger(value) && value >= 0;
    if (labels && labels.length && !(whole && value < labels.length)) throw new Error(`${name} must be one of ${labels.join(", ")}.`);
    if (kind === "count" && !whole) throw new Error(`${name} must be a whole number of at least 0; got ${value}.`);
  }

  /** For each view of the page: decoded(likelihoods), original(row), and read(values, row), which sets the row's entries. */
  lfm.exportedViews = (views, documents) =>
    views.map((view, place) => (view.kind === "picture" ? pictureView : columnsView)(view, documents[place]));
})((globalThis.lfm = globalThis.lfm || {}));
