// Reads a row that was pasted or dropped as text: values in the order of the columns, or with a line of names above.
(function (lfm) {
  "use strict";

  const MISSING = new Set(["", "na", "n/a", "nan", "null", "none", "?"]);

  // The fields of each line; a field in double quotes may hold the separator.
  function fields(text, separator) {
    const blank = separator === " ";
    return text
      .split(/\r?\n/)
      .filter((line) => line.trim() !== "")
      .map((line) => {
        if (blank) return line.trim().split(/\s+/);
        const parts = [];
        const pattern = new RegExp(` *(?:"((?:[^"]|"")*)"|([^${separator}]*?)) *(?:${separator}|$)`, "gy");
        for (let match; pattern.lastIndex <= line.length && (match = pattern.exec(line));) {
          parts.push(match[1] !== undefined ? match[1].replace(/""/g, '"') : match[2]);
          if (!match[0].endsWith(separator)) break;
        }
        return parts;
      });
  }

  function separatorOf(text) {
    const line = text.split(/\r?\n/)[0].replace(/"[^"]*"/g, "");
    return ["\t", ";", ","].find((separator) => line.includes(separator)) || (text.includes('"') ? "," : " ");
  }

  // What the model reads, in order: one entry for each column, or pixel, of each view.
  function slots(info) {
    return info.views.flatMap((view) => {
      if (view.kind === "columns") return view.columns;
      const count = view.shape.reduce((product, size) => product * size, 1);
      return Array.from({ length: count }, (_, pixel) => ({ name: `${view.name}.${pixel}`, kind: "number" }));
    });
  }

  function value(text, slot, separator) {
    if (MISSING.has(text.trim().toLowerCase())) return null;
    if (slot.labels && slot.labels.length) {
      const code = slot.labels.findIndex((label) => String(label) === text.trim());
      if (code >= 0) return code;
      const known = slot.labels.slice(0, 8).join(", ") + (slot.labels.length > 8 ? ", …" : "");
      throw new Error(`Column ${slot.name} has no category "${text.trim()}". It knows ${known}.`);
    }
    const number = Number(separator === "," ? text : text.replace(",", "."));
    if (!isFinite(number))
      throw new Error(`Column ${slot.name} needs a number. "${text.trim().slice(0, 40)}" is none.`);
    return number;
  }

  // Lists of values become the lists of the views.
  function split(values, info) {
    let start = 0;
    return info.views.map((view) => {
      const count = view.kind === "columns" ? view.columns.length : view.shape.reduce((a, b) => a * b, 1);
      return values.slice(start, (start += count));
    });
  }

  function byName(names, row, info, separator) {
    const at = new Map(names.map((name, place) => [name.trim(), place]));
    const entry = (slot) => (at.has(slot.name) ? value(row[at.get(slot.name)] ?? "", slot, separator) : null);
    const covariates = {};
    for (const covariate of info.covariates) {
      const given = entry(covariate);
      if (given !== null) covariates[covariate.name] = given;
    }
    return { views: split(slots(info).map(entry), info), covariates };
  }

  // {views, covariates, rows}: `rows` is how many rows the text holds; the first is taken.
  lfm.readRow = function (text, info) {
    // Brackets of a list in Python or JSON say nothing that commas do not. A last tab, though, is an empty field.
    const list = /^\s*[[(]/.test(text);
    const plain = (list ? text.replace(/[[\]()]/g, " ") : text).replace(/^[ \r\n]+|[ \r\n]+$/g, "");
    if (plain.trim() === "") throw new Error("There is no row in this text.");
    const separator = separatorOf(plain);
    const lines = fields(plain, separator);
    const expected = slots(info);
    const known = new Set([...expected, ...info.covariates].map(({ name }) => name));
    if (lines.length > 1 && lines[0].some((name) => known.has(name.trim()))) {
      return { ...byName(lines[0], lines[1], info, separator), rows: lines.length - 1 };
    }
    // A picture may be written as lines of pixels.
    const pictures = info.views.every((view) => view.kind === "picture");
    const row = pictures ? lines.flat() : lines[0];
    if (row.length !== expected.length) {
      const names = pictures
        ? ""
        : ` (${expected
            .slice(0, 6)
            .map(({ name }) => name)
            .join(", ")}${expected.length > 6 ? ", …" : ""})`;
      const what = `${lfm.plural(expected.length, pictures ? "pixel" : "column")}${names}`;
      throw new Error(`The row has ${lfm.plural(row.length, "value")}; the model reads ${what}.`);
    }
    const values = row.map((text, place) => value(text, expected[place], separator));
    return { views: split(values, info), covariates: {}, rows: pictures ? 1 : lines.length };
  };
})((window.lfm = window.lfm || {}));
