// The tool "Selection": how many rows, how their columns differ from the rest, and their export as CSV.
(function (lfm) {
  "use strict";

  const FIRST = 8;
  const SVG = "http://www.w3.org/2000/svg";

  function shape(tag, attributes) {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  }

  // Two histograms over the same edges: the selection filled, the rest as a line.
  function histogram({ inside, outside }) {
    const [width, height, most] = [inside.length, 24, Math.max(...inside, ...outside, 1e-12)];
    const level = (share) => (height * (1 - share / most)).toFixed(2);
    const svg = shape("svg", {
      viewBox: `0 0 ${width} ${height}`,
      preserveAspectRatio: "none",
      class: "histogram",
      "aria-hidden": "true",
    });
    inside.forEach((share, bin) =>
      svg.append(
        shape("rect", { class: "inside", x: bin + 0.06, width: 0.88, y: level(share), height: height - level(share) }),
      ),
    );
    const line = outside.map((share, bin) => `${bin ? "V" : "M0 "}${level(share)}H${bin + 1}`).join("");
    svg.append(shape("path", { class: "outside", d: line }));
    return svg;
  }

  function numberColumn(column) {
    const text = lfm.formatter(column.edges[0], column.edges[column.edges.length - 1]);
    const difference = column.difference_sd;
    const sign = difference > 0 ? "+" : "";
    return [
      lfm.element(
        "div",
        { class: "plot" },
        histogram(column),
        lfm.element(
          "div",
          { class: "ends number" },
          lfm.element("span", {}, text(column.edges[0])),
          lfm.element("span", {}, text(column.edges[column.edges.length - 1])),
        ),
      ),
      lfm.element(
        "div",
        { class: "verdict number" },
        `${text(column.mean_inside)}`,
        lfm.element("span", { class: "muted" }, ` / ${text(column.mean_outside)}`),
        lfm.element(
          "div",
          { class: "muted" },
          difference === null ? "" : `${sign}${lfm.number(Number(difference.toFixed(2)))} sd`,
        ),
      ),
    ];
  }

  function categoryColumn(column) {
    const order = column.labels
      .map((_, code) => code)
      .sort((a, b) => column.inside[b] - column.inside[a])
      .slice(0, 5);
    const lines = order.map((code) => {
      const [fill, mark] = [lfm.element("span", { class: "fill" }), lfm.element("span", { class: "own" })];
      fill.style.width = `${100 * column.inside[code]}%`;
      mark.style.left = `${100 * column.outside[code]}%`;
      return lfm.element(
        "div",
        { class: "share-line" },
        lfm.element("span", { class: "label", title: column.labels[code] }, String(column.labels[code])),
        lfm.element("span", { class: "bar" }, fill, mark),
        lfm.element("span", { class: "number" }, lfm.percent(column.inside[code]) || "0%"),
      );
    });
    return [lfm.element("div", { class: "plot wide" }, ...lines)];
  }

  function comparison(summary, app) {
    const nodes = summary.columns.map((column) =>
      lfm.element(
        "div",
        { class: "compared" },
        lfm.element("h4", { title: column.name }, column.name),
        ...(column.kind === "number" ? numberColumn(column) : categoryColumn(column)),
      ),
    );
    const all = lfm.element(
      "button",
      { type: "button", class: "quiet", onclick: () => (all.before(...nodes.slice(FIRST)), all.remove()) },
      `Show all ${nodes.length} columns`,
    );
    const key = lfm.element(
      "p",
      { class: "muted small" },
      lfm.element("span", { class: "key-inside" }),
      " selected ",
      lfm.element("span", { class: "key-outside" }),
      " the rest; the largest differences first",
    );
    return lfm.element(
      "div",
      { class: "comparison" },
      nodes.length ? key : null,
      ...nodes.slice(0, FIRST),
      nodes.length > FIRST ? all : null,
    );
  }

  // Without the mouse: the rows of a category, or those nearest to the present point.
  function chooser(app) {
    const { info, actions } = app;
    const categories = info.colours.filter(({ kind }) => kind === "category");
    const count = lfm.element("input", {
      type: "number",
      min: 1,
      max: info.rows,
      value: Math.min(50, info.rows),
      class: "number",
      "aria-label": "Number of nearest rows",
    });
    const near = lfm.element(
      "button",
      { type: "button", onclick: () => actions.selectNearest(Math.max(1, Number(count.value) || 1)) },
      "Select nearest",
    );
    const options = categories.flatMap((colour) =>
      colour.labels.map((label, code) => [`${colour.name}\n${code}`, `${colour.name}: ${label}`]),
    );
    const list = categories.length
      ? lfm.select(
          "Category",
          [["", "Select by category…"], ...options],
          async (value) => {
            const [name, code] = value.split("\n");
            list.set("");
            if (name)
              await actions.selectCategory(
                categories.find((colour) => colour.name === name),
                Number(code),
              );
          },
          true,
        )
      : null;
    return lfm.element(
      "div",
      { class: "chooser" },
      list && list.node,
      lfm.element("span", { class: "near" }, count, near),
    );
  }

  lfm.selectionTool = function (app) {
    const { info, source, store, actions } = app;
    const count = lfm.element("p", { class: "count" });
    const csv = lfm.element("button", { type: "button", onclick: save }, "Export CSV");
    const clear = lfm.element("button", { type: "button", onclick: () => actions.select(null) }, "Clear");
    const body = lfm.element("div");
    const node = lfm.element(
      "div",
      { class: "tool selection" },
      lfm.element("div", { class: "row-choice" }, count, csv, clear),
      chooser(app),
      body,
    );
    csv.hidden = !source.can.has("csv");

    async function save() {
      try {
        const text = await source.csv(Array.from(store.state.selected));
        lfm.download(new Blob([text], { type: "text/csv" }), `${info.title.replace(/[^\w-]+/g, "_")}_selection.csv`);
      } catch (error) {
        app.fail(error);
      }
    }

    const ask = lfm.latest(
      (rows) => source.summary(Array.from(rows)),
      (summary, rows) => {
        if (rows === store.state.selected) body.replaceChildren(comparison(summary, app));
      },
      (error) => app.fail(error),
    );

    function update(state, before) {
      if (before && state.selected === before.selected) return;
      const rows = state.selected;
      csv.disabled = clear.disabled = !rows;
      count.replaceChildren(
        ...(rows
          ? [
              lfm.element("strong", { class: "number" }, rows.length.toLocaleString("en")),
              ` of ${lfm.plural(info.rows, "row")} (${lfm.percent(rows.length / info.rows)})`,
            ]
          : ["No row is selected"]),
      );
      if (!rows)
        body.replaceChildren(
          lfm.element(
            "p",
            { class: "muted" },
            "Draw around rows with the lasso, hold Shift for a rectangle, or click an entry of the legend.",
          ),
        );
      else if (source.can.has("summary")) ask(rows);
      else body.replaceChildren();
    }
    store.subscribe(update);
    update(store.state);
    return node;
  };
})((window.lfm = window.lfm || {}));
