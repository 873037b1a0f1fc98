// The tool "Row": which row is chosen, what the file says of it, and rows of the user's own.
(function (lfm) {
  "use strict";

  const fact = (name, text) =>
    lfm.element(
      "div",
      {},
      lfm.element("dt", { title: name }, name),
      lfm.element("dd", { class: "number", title: text }, text),
    );

  // What is known of a row: its columns and labels, and its attributes as they are read from its posterior.
  function factsOf(info, { colours, attributes }) {
    const has = (values, name) => values && values[name] !== undefined && values[name] !== null;
    return [
      ...info.colours
        .filter(({ name }) => has(colours, name))
        .map((colour) => fact(colour.name, lfm.colourText(colour, colours[colour.name]))),
      ...info.attributes
        .filter(({ name }) => has(attributes, name))
        .map((attribute) => fact(`${attribute.name}, read`, lfm.attributeText(attribute, attributes[attribute.name]))),
    ];
  }

  // The number of the row, with steps to its neighbours. `show` gets the row, or null.
  function rowChoice({ info, store, actions }) {
    const id = lfm.freshId("row");
    const choose = (row) => actions.chooseRow(Math.min(info.rows - 1, Math.max(0, row)));
    const input = lfm.element("input", {
      id,
      type: "number",
      min: 0,
      max: info.rows - 1,
      step: 1,
      class: "number",
      onchange: () => (/^\d+$/.test(input.value) ? choose(Number(input.value)) : null),
    });
    const step = (by) => () => {
      const { subject } = store.state;
      const row = subject && subject.row !== null ? subject.row + by : 0;
      actions.chooseRow((row + info.rows) % info.rows);
    };
    const button = (text, label, act) =>
      lfm.element("button", { type: "button", "aria-label": label, title: label, onclick: act }, text);
    const node = lfm.element(
      "div",
      { class: "row-choice" },
      lfm.element("label", { for: id }, "Row"),
      button("‹", "Row before", step(-1)),
      input,
      button("›", "Row after", step(1)),
      lfm.element("span", { class: "muted" }, `of ${lfm.plural(info.rows, "row")}`),
    );
    return { node, show: (row) => (input.value = row ?? "") };
  }

  lfm.rowTool = function (app) {
    const { info, store } = app;
    const choice = rowChoice(app);
    const facts = lfm.element("dl", { class: "facts" });
    const own = app.source.can.has("encode") ? [lfm.element("h3", {}, "A row of your own"), lfm.openRow(app)] : [];
    const node = lfm.element("div", { class: "tool" }, choice.node, facts, ...own);

    function update(state, before) {
      const { subject } = state;
      if (before && subject === before.subject) return;
      choice.show(subject ? subject.row : null);
      const hint = lfm.element("dt", {}, "Click a point of the map to choose a row.");
      facts.replaceChildren(
        ...(subject ? factsOf(info, subject.encoded) : [lfm.element("div", { class: "none" }, hint)]),
      );
    }
    store.subscribe(update);
    update(store.state);
    return node;
  };
})((window.lfm = window.lfm || {}));
