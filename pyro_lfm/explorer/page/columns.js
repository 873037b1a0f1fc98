// The columns of a decoded row: numbers as marks with intervals, categories as bars of probabilities.
(function (lfm) {
  "use strict";

  const MANY = 14;
  const MOST = 200;

  const labelOf = (labels, code) =>
    labels && code !== null && labels[code] !== undefined ? String(labels[code]) : lfm.number(code);

  // The number of a cell: a value, the code of the likeliest category, or a mean; null where it is missing.
  lfm.cellNumber = function (cell) {
    if ("value" in cell) return cell.value;
    return cell.probabilities ? cell.probabilities.indexOf(Math.max(...cell.probabilities)) : cell.mean;
  };

  // What a cell says in a few letters: the (likeliest) category, or the number in the digits of its column.
  lfm.cellText = function (column, cell) {
    const value = lfm.cellNumber(cell);
    if (column.labels && column.labels.length && value !== null && Number.isInteger(value))
      return labelOf(column.labels, value);
    return column.low === null || column.low === undefined
      ? lfm.number(value)
      : lfm.formatter(column.low, column.high)(value);
  };

  lfm.colourText = (colour, value) => (colour.kind === "category" ? labelOf(colour.labels, value) : lfm.number(value));

  function numberRow(column, levels) {
    const text = lfm.formatter(column.low, column.high);
    const place = (value) => Math.min(1, Math.max(0, (value - column.low) / (column.high - column.low || 1)));
    const [range, mark, own] = ["interval", "mean", "own"].map((name) => lfm.element("span", { class: name }));
    const value = lfm.element("td", { class: "number" });
    const ends = lfm.element("td", { class: "number muted" });
    const node = lfm.element(
      "tr",
      {},
      lfm.element("th", { scope: "row", title: column.name }, column.name),
      lfm.element(
        "td",
        { class: "bar-cell" },
        lfm.element("div", { class: "bar", "aria-hidden": "true" }, range, mark, own),
      ),
      value,
      ends,
    );
    function show(cell, original) {
      value.textContent = text(cell.mean);
      ends.textContent = `${text(cell.low)}\u2009–\u2009${text(cell.high)}`;
      ends.title = `${lfm.percent(levels)} interval`;
      range.style.left = `${100 * place(cell.low)}%`;
      range.style.width = `${100 * (place(cell.high) - place(cell.low))}%`;
      mark.style.left = `${100 * place(cell.mean)}%`;
      own.hidden = !original || original.value === null || original.value === undefined;
      if (!own.hidden) own.style.left = `${100 * place(original.value)}%`;
      own.title = own.hidden ? "" : `The row has ${text(original.value)}`;
    }
    return { node, show };
  }

  function categoryRow(column) {
    const lines = column.labels.map((label) => {
      const fill = lfm.element("span", { class: "fill" });
      const share = lfm.element("span", { class: "number" });
      const name = lfm.element("span", { class: "label", title: label }, String(label));
      return {
        node: lfm.element(
          "div",
          { class: "share-line" },
          name,
          lfm.element("span", { class: "bar", "aria-hidden": "true" }, fill),
          share,
        ),
        fill,
        share,
      };
    });
    const node = lfm.element(
      "tr",
      { class: "category-row" },
      lfm.element("th", { scope: "row", title: column.name }, column.name),
      lfm.element("td", { colspan: 3 }, ...lines.map(({ node }) => node)),
    );
    function show(cell, original) {
      lines.forEach(({ node, fill, share }, code) => {
        fill.style.width = `${100 * cell.probabilities[code]}%`;
        share.textContent = lfm.percent(cell.probabilities[code]) || "0%";
        node.classList.toggle("own", Boolean(original) && original.value === code);
      });
    }
    return { node, show };
  }

  // {node, show(cells, originals)}. A long table gets a field that filters its names.
  lfm.columnsTable = function (view, levels) {
    const rows = view.columns.map((column) => ({ name: column.name, column, row: null }));
    const body = lfm.element("tbody");
    const count = lfm.element("p", { class: "muted small" });
    let shown = [];
    let last = null;

    function filter(text) {
      const wanted = rows.filter(({ name }) => name.toLowerCase().includes(text.toLowerCase()));
      shown = wanted.slice(0, MOST);
      for (const entry of shown)
        entry.row =
          entry.row ||
          (entry.column.labels && entry.column.labels.length ? categoryRow : numberRow)(entry.column, levels);
      body.replaceChildren(...shown.map(({ row }) => row.node));
      count.textContent =
        wanted.length > MOST
          ? `The first ${MOST} of ${lfm.plural(wanted.length, "column")}; filter by name to see others.`
          : "";
      if (last) show(...last);
    }

    function show(cells, originals) {
      last = [cells, originals];
      for (const { column, row } of shown) {
        const place = view.columns.indexOf(column);
        row.show(cells[place], originals ? originals[place] : null);
      }
    }

    const search = lfm.element("input", {
      type: "search",
      placeholder: "Filter columns",
      "aria-label": "Filter columns",
      oninput: () => filter(search.value),
    });
    const head = lfm.element(
      "thead",
      {},
      lfm.element(
        "tr",
        { class: "unseen" },
        ...["Column", "Range", "Mean", `${lfm.percent(levels)} interval`].map((text) =>
          lfm.element("th", { scope: "col" }, text),
        ),
      ),
    );
    filter("");
    const widths = lfm.element(
      "colgroup",
      {},
      ...["name", "range", "mean", "ends"].map((name) => lfm.element("col", { class: name })),
    );
    const sign = (name, text) => [lfm.element("span", { class: `sign ${name}` }), ` ${text} `];
    const key = lfm.element(
      "p",
      { class: "muted small key" },
      ...sign("mean", "mean"),
      ...sign("interval", `${lfm.percent(levels)} interval`),
      ...sign("own", "the row itself"),
    );
    return {
      node: lfm.element(
        "div",
        { class: "columns" },
        rows.length > MANY ? search : null,
        lfm.element("table", {}, widths, head, body),
        count,
        key,
      ),
      show,
    };
  };
})((window.lfm = window.lfm || {}));
