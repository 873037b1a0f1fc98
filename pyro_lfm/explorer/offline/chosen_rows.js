// lfm.chosenRows: how chosen rows differ from the others, and their text as CSV, from what an exported page holds.
(function (lfm) {
  "use strict";

  const BARS = 20, COLUMNS = 60;

  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const shares = (counts) => counts.map((count) => count / Math.max(1, sum(counts)));
  const average = (values) => (values.length ? sum(values) / values.length : null);

  /** The total variation distance of two histograms; 0 where one is empty. */
  function distance(inside, outside) {
    if (!sum(inside) || !sum(outside)) return 0;
    const other = shares(outside);
    return 0.5 * sum(shares(inside).map((share, k) => Math.abs(share - other[k])));
  }

  function ofNumbers(name, inside, outside) {
    const all = [...inside, ...outside];
    let low = all.reduce((a, b) => Math.min(a, b)), high = all.reduce((a, b) => Math.max(a, b));
    if (low === high) [low, high] = [low - 0.5, high + 0.5];
    const edges = Array.from({ length: BARS + 1 }, (_, k) => low + ((high - low) * k) / BARS);
    const counts = [inside, outside].map((values) => {
      const bars = new Array(BARS).fill(0);
      for (const value of values) bars[Math.min(BARS - 1, Math.floor(((value - low) / (high - low)) * BARS))]++;
      return bars;
    });
    const mean = average(all), spread = Math.sqrt(average(all.map((value) => (value - mean) ** 2)));
    const means = [average(inside), average(outside)], known = means.every((value) => value !== null);
    return {
      far: distance(...counts), name, kind: "number", edges, inside: shares(counts[0]), outside: shares(counts[1]),
      mean_inside: means[0], mean_outside: means[1],
      difference_sd: known && spread > 0 ? (means[0] - means[1]) / spread : spread > 0 ? null : 0,
    };
  }

  function ofLabels(name, labels, inside, outside) {
    const counts = [inside, outside].map((codes) => {
      const bars = labels.map(() => 0);
      for (const code of codes) bars[code]++;
      return bars;
    });
    return { far: distance(...counts), name, kind: "category", labels, inside: shares(counts[0]), outside: shares(counts[1]) };
  }

  /**
   * The distribution of each column inside and outside of the chosen rows, those that differ most first.
   *
   * @param columns [{name, kind, labels, values}], values with NaN where missing.
   */
  function summary(columns, chosen) {
    const isChosen = new Set(chosen);
    const compared = columns.flatMap(({ name, kind, labels, values }) => {
      const parts = [[], []];
      values.forEach((value, row) => Number.isFinite(value) && parts[isChosen.has(row) ? 0 : 1].push(value));
      if (!parts[0].length && !parts[1].length) return [];
      return [kind === "category" ? ofLabels(name, labels, ...parts) : ofNumbers(name, ...parts)];
    });
    compared.sort((a, b) => b.far - a.far);
    return { count: isChosen.size, columns: compared.slice(0, COLUMNS).map(({ far, ...column }) => column) };
  }

  /** The lines of a CSV text; a field in quotes may hold ends of lines. */
  function lines(text) {
    const complete = [];
    let start = 0, quoted = false;
    for (let i = 0; i < text.length; i++) {
      if (text[i] === '"') quoted = !quoted;
      if (text[i] === "\n" && !quoted) {
        complete.push(text.slice(start, i + 1));
        start = i + 1;
      }
    }
    return start < text.length && text.slice(start).trim() ? [...complete, text.slice(start)] : complete;
  }

  /** The fewest digits that give the same number in single precision. */
  function short(value) {
    if (Number.isNaN(value)) return "";
    for (let digits = 1; digits < 9; digits++) {
      const text = String(Number(value.toPrecision(digits)));
      if (Math.fround(Number(text)) === Math.fround(value)) return text;
    }
    return String(value);
  }

  const field = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

  /** Rows of arrays as CSV: read(row) gives {variable: values}. */
  function csvOf(names, read, chosen) {
    const header = ["row", ...Object.values(names).flat()].map(field).join(",");
    const rows = chosen.map((row) => {
      const values = read(row);
      return [row, ...Object.keys(names).flatMap((variable) => Array.from(values[variable], short))].join(",");
    });
    return [header, ...rows, ""].join("\n");
  }

  lfm.chosenRows = { summary, lines, csvOf };
})((globalThis.lfm = globalThis.lfm || {}));
