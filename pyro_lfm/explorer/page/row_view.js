// The decoded row: its picture and the uncertainty beside it, or its columns; and the row that it started from.
(function (lfm) {
  "use strict";

  function figure(canvas, caption) {
    return lfm.element("figure", {}, canvas, lfm.element("figcaption", {}, caption));
  }

  // A picture view: the mean, large; the deviation and the original, small.
  function pictureView(view, file) {
    const mean = lfm.pictures.canvas(view, `Decoded ${view.name}`);
    const deviation = lfm.pictures.canvas(view, `Standard deviation of each pixel of ${view.name}`);
    const original = lfm.pictures.canvas(view, `Original ${view.name}`);
    const ramp = lfm.element("span", { class: "ramp-viridis", "aria-hidden": "true" });
    const [zero, top] = [lfm.element("span", {}, "±0"), lfm.element("span")];
    const uncertainty = figure(deviation, "Uncertainty");
    uncertainty.append(lfm.element("div", { class: "scale" }, zero, ramp, top));
    const source = figure(original, "Original");
    mean.dataset.role = "mean";
    deviation.dataset.role = "deviation";
    const node = lfm.element(
      "div",
      { class: "picture-view" },
      lfm.element("figure", { class: "large" }, mean),
      lfm.element("div", { class: "side" }, uncertainty, source),
    );
    function show(answer, given) {
      lfm.pictures.paint(mean, view, answer.mean);
      uncertainty.hidden = !answer.deviation;
      if (answer.deviation) {
        const scale = lfm.pictures.paintDeviation(deviation, view, answer.deviation);
        zero.hidden = ramp.hidden = scale.everywhere !== null;
        top.textContent =
          scale.everywhere === null ? `±${lfm.number(scale.top)}` : `±${lfm.number(scale.everywhere)} everywhere`;
      }
      source.hidden = !given;
      if (given) lfm.pictures.paint(original, view, given.mean);
    }
    const save = () => lfm.pictures.save(mean, `${file()}_${view.name}.png`);
    return { node, show, save };
  }

  function columnsView(view, levels) {
    const table = lfm.columnsTable(view, levels);
    return { node: table.node, show: (answer, given) => table.show(answer.cells, given ? given.cells : null) };
  }

  // The decoded row as CSV: a line of names, a line of means or likeliest categories.
  function csv(info, decoded) {
    const quote = (text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
    const [names, values] = [[], []];
    info.views.forEach((view, place) => {
      const answer = decoded[place];
      if (view.kind === "picture") {
        answer.mean.forEach((value, pixel) => (names.push(`${view.name}.${pixel}`), values.push(String(value))));
        return;
      }
      view.columns.forEach((column, at) => {
        const { mean, probabilities } = answer.cells[at];
        names.push(quote(column.name));
        values.push(
          probabilities
            ? quote(String(column.labels[probabilities.indexOf(Math.max(...probabilities))]))
            : String(mean),
        );
      });
    });
    return `${names.join(",")}\n${values.join(",")}\n`;
  }

  function title(state) {
    if (!state.subject) return state.where || "A point of the latent space";
    return `${state.subject.name}, ${lfm.isEdited(state) ? "edited" : "reconstructed"}`;
  }

  lfm.rowPanel = function (app, container) {
    const { info, store } = app;
    const file = () => `${info.title} ${title(store.state)}`.replace(/[^\w-]+/g, "_");
    const heading = lfm.element("h2", { id: "row-title" });
    const saveCsv = () =>
      lfm.download(new Blob([csv(info, store.state.decoded)], { type: "text/csv" }), `${file()}.csv`);
    const button = (text, title, act) =>
      lfm.element("button", { type: "button", class: "quiet", title, onclick: act }, text);
    const views = info.views.map((view) =>
      view.kind === "picture" ? pictureView(view, file) : columnsView(view, info.levels),
    );
    const parts = views.map(({ node }, place) =>
      info.views.length > 1
        ? lfm.element("div", { class: "view" }, lfm.element("h3", {}, info.views[place].name), node)
        : node,
    );
    const saves = views.map(({ save }, place) =>
      save ? button("PNG", `Save the picture ${info.views[place].name} as PNG`, save) : null,
    );
    container.append(
      lfm.element(
        "header",
        {},
        heading,
        lfm.element("span", { class: "saves" }, ...saves, button("CSV", "Save the decoded row as CSV", saveCsv)),
      ),
      lfm.element(
        "div",
        { class: "views", tabindex: info.views.some(({ kind }) => kind === "columns") ? 0 : null },
        ...parts,
      ),
    );
    container.classList.toggle(
      "has-columns",
      info.views.some(({ kind }) => kind === "columns"),
    );

    function update(state, before) {
      if (state.decoded && (state.decoded !== before.decoded || state.subject !== before.subject)) {
        const originals = state.subject ? state.subject.encoded.original : null;
        views.forEach(({ show }, place) => show(state.decoded[place], originals ? originals[place] : null));
      }
      heading.textContent = heading.title = title(state);
    }
    store.subscribe(update);
    update(store.state, store.state);
  };
})((window.lfm = window.lfm || {}));
