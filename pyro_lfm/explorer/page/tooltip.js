// The note beside a row under the pointer: the row, its reconstruction, and what the file says of it.
(function (lfm) {
  "use strict";

  const ENTRIES = 6;

  // A pair of pictures: as it is, as the model has it.
  function pair(view, original, rebuilt) {
    return [
      ["Row", original],
      ["Reconstructed", rebuilt],
    ]
      .filter(([, values]) => values)
      .map(([label, values]) => {
        const canvas = lfm.pictures.canvas(view, label);
        lfm.pictures.paint(canvas, view, values.mean);
        return lfm.element("figure", {}, canvas, lfm.element("figcaption", {}, label));
      });
  }

  function table(view, original, rebuilt) {
    const rows = view.columns.slice(0, ENTRIES).map((column, place) => {
      const cell = (text) => lfm.element("td", {}, text);
      const name = lfm.element("th", { scope: "row" }, column.name);
      return lfm.element(
        "tr",
        {},
        name,
        cell(original ? lfm.cellText(column, original.cells[place]) : ""),
        cell(lfm.cellText(column, rebuilt.cells[place])),
      );
    });
    const head = lfm.element(
      "tr",
      {},
      ...["", "row", "reconstructed"].map((text) => lfm.element("td", { class: "muted" }, text)),
    );
    const more = view.columns.length - ENTRIES;
    if (more > 0)
      rows.push(
        lfm.element(
          "tr",
          {},
          lfm.element("td", { colspan: 3, class: "muted" }, `and ${lfm.plural(more, "column")} more`),
        ),
      );
    return lfm.element("table", {}, head, ...rows);
  }

  lfm.tooltip = function (app, stage) {
    const node = lfm.element("div", { class: "tooltip", hidden: true, "aria-hidden": "true" });
    stage.append(node);

    function hide() {
      node.hidden = true;
    }

    function show(row, encoded, [x, y]) {
      // Columns of a table stand in the table below.
      const shown = new Set(app.info.views.flatMap((view) => (view.columns || []).map(({ name }) => name)));
      const facts = app.info.colours
        .filter(({ name }) => encoded.colours && name in encoded.colours && !shown.has(name))
        .slice(0, 4)
        .map((colour) =>
          lfm.element(
            "span",
            {},
            lfm.element("b", {}, colour.name),
            ` ${lfm.colourText(colour, encoded.colours[colour.name])}`,
          ),
        );
      // An exported page has only some of the rows themselves.
      const originals = encoded.original || [];
      const body = app.info.views.map((view, place) =>
        view.kind === "picture"
          ? lfm.element("div", { class: "pair" }, ...pair(view, originals[place], encoded.views[place]))
          : table(view, originals[place], encoded.views[place]),
      );
      node.replaceChildren(
        lfm.element("strong", {}, `Row ${row}`),
        lfm.element("div", { class: "facts" }, ...facts),
        ...body,
      );
      node.hidden = false;
      const [width, height] = [node.offsetWidth, node.offsetHeight];
      const left = x + 18 + width > stage.clientWidth ? x - 18 - width : x + 18;
      node.style.left = `${Math.max(4, left)}px`;
      node.style.top = `${Math.max(4, Math.min(stage.clientHeight - height - 4, y - height / 2))}px`;
    }

    return { show, hide };
  };
})((window.lfm = window.lfm || {}));
