// The tool "Row": which row is chosen, what the file says of it, and rows of the user's own.
(function (lfm) {
  "use strict";

  lfm.rowTool = function (app) {
    const { info, store, actions } = app;
    const id = lfm.freshId("row");
    const number = lfm.element("input", {
      id,
      type: "number",
      min: 0,
      max: info.rows - 1,
      step: 1,
      class: "number",
      onchange: () =>
        number.value !== "" && Number.isInteger(Number(number.value))
          ? actions.chooseRow(Math.min(info.rows - 1, Math.max(0, Number(number.value))))
          : null,
    });
    const step = (by) => () =>
      actions.chooseRow(
        ((store.state.subject && store.state.subject.row !== null ? store.state.subject.row + by : 0) + info.rows) %
          info.rows,
      );
    const button = (text, label, act) =>
      lfm.element("button", { type: "button", "aria-label": label, title: label, onclick: act }, text);
    const facts = lfm.element("dl", { class: "facts" });
    const node = lfm.element(
      "div",
      { class: "tool" },
      lfm.element(
        "div",
        { class: "row-choice" },
        lfm.element("label", { for: id }, "Row"),
        button("‹", "Row before", step(-1)),
        number,
        button("›", "Row after", step(1)),
        lfm.element("span", { class: "muted" }, `of ${lfm.plural(info.rows, "row")}`),
      ),
      facts,
      app.source.can.has("encode") ? lfm.element("h3", {}, "A row of your own") : null,
      app.source.can.has("encode") ? lfm.openRow(app) : null,
    );

    const fact = (name, text) =>
      lfm.element(
        "div",
        {},
        lfm.element("dt", { title: name }, name),
        lfm.element("dd", { class: "number", title: text }, text),
      );

    function update(state, before) {
      if (before && state.subject === before.subject) return;
      const subject = state.subject;
      number.value = subject && subject.row !== null ? subject.row : "";
      const encoded = subject ? subject.encoded : { colours: {}, attributes: {} };
      const known = info.colours.filter(
        ({ name }) => encoded.colours && encoded.colours[name] !== undefined && encoded.colours[name] !== null,
      );
      const read = info.attributes.filter(({ name }) => encoded.attributes && encoded.attributes[name] !== undefined);
      facts.replaceChildren(
        ...known.map((colour) => fact(colour.name, lfm.colourText(colour, encoded.colours[colour.name]))),
        ...read.map((attribute) =>
          fact(`${attribute.name}, read`, lfm.attributeText(attribute, encoded.attributes[attribute.name])),
        ),
      );
      if (!subject)
        facts.append(
          lfm.element("div", { class: "none" }, lfm.element("dt", {}, "Click a point of the map to choose a row.")),
        );
    }
    store.subscribe(update);
    update(store.state);
    return node;
  };
})((window.lfm = window.lfm || {}));
