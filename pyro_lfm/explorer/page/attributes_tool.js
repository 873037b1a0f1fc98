// The tool "Attributes": rows with the attributes that one asks for, and the present row with other attributes.
(function (lfm) {
  "use strict";

  // The two labels of a binary attribute, in words where the data have true and false, or 1 and 0.
  function pair(labels) {
    const given = (labels || []).map(String);
    const plain = given.length !== 2 || ["false,true", "0,1", "0.0,1.0"].includes(given.join().toLowerCase());
    return plain ? ["no", "yes"] : given;
  }

  // An attribute as it is read from a latent point: the likelier label with its probability, or a number.
  lfm.attributeText = function (attribute, value) {
    if (value === null || value === undefined) return "\u2013";
    if (attribute.kind === "binary") {
      const [first, second] = pair(attribute.labels);
      return value < 0.5 ? `${first} ${lfm.percent(1 - value)}` : `${second} ${lfm.percent(value)}`;
    }
    if (attribute.kind === "category") {
      const best = value.indexOf(Math.max(...value));
      return `${attribute.labels[best]} ${lfm.percent(value[best])}`;
    }
    return lfm.formatter(attribute.low, attribute.high)(value);
  };

  // One line of the form: a box that asks for the attribute, and its value.
  function line(attribute) {
    const id = lfm.freshId("attribute");
    const asked = lfm.element("input", { id, type: "checkbox" });
    let value =
      attribute.kind === "number" ? (attribute.low + attribute.high) / 2 : attribute.kind === "binary" ? 1 : 0;
    const set = (chosen) => {
      value = chosen;
      asked.checked = true;
    };
    let control;
    if (attribute.kind === "number") {
      const text = lfm.formatter(attribute.low, attribute.high);
      const output = lfm.element("output", { class: "number" }, text(value));
      const input = lfm.element("input", {
        type: "range",
        min: attribute.low,
        max: attribute.high,
        step: "any",
        value,
        "aria-label": attribute.name,
        oninput: () => (set(Number(input.value)), (output.textContent = text(value))),
      });
      control = lfm.element("span", { class: "value" }, input, output);
    } else {
      const choices = lfm.categories(
        attribute.name,
        attribute.kind === "binary" ? pair(attribute.labels) : attribute.labels,
        set,
      );
      choices.set(value);
      control = lfm.element("span", { class: "value" }, choices.node);
    }
    const score =
      attribute.score === null || attribute.score === undefined
        ? ""
        : `${attribute.measure} ${attribute.score.toFixed(2)}${attribute.error ? ` ± ${attribute.error.toFixed(2)}` : ""}`;
    const node = lfm.element(
      "div",
      { class: "attribute" },
      asked,
      lfm.element("label", { for: id, title: attribute.name }, attribute.name),
      control,
      lfm.element(
        "span",
        { class: "score muted number", title: "How well the latent factors tell it, on rows held out" },
        score,
      ),
    );
    // A binary attribute is asked for as true or false, a category by its label.
    const answer = () =>
      attribute.kind === "binary" ? Boolean(value) : attribute.kind === "category" ? attribute.labels[value] : value;
    return { name: attribute.name, node, asked, answer };
  }

  function changes(info, { before, after }) {
    const rows = info.attributes
      .filter(({ name }) => name in before)
      .map((attribute) =>
        lfm.element(
          "tr",
          {},
          lfm.element("th", { scope: "row", title: attribute.name }, attribute.name),
          ...[before, after].map((values) =>
            lfm.element("td", { class: "number" }, lfm.attributeText(attribute, values[attribute.name])),
          ),
        ),
      );
    const head = lfm.element(
      "tr",
      {},
      ...["", "before", "after"].map((text) => lfm.element(text ? "th" : "td", text ? { scope: "col" } : {}, text)),
    );
    return lfm.element("table", { class: "changes" }, head, ...rows);
  }

  lfm.attributesTool = function (app) {
    const { info, source, store, actions } = app;
    const lines = info.attributes.map(line);
    const field = (label, input) => lfm.element("label", { class: "field" }, input, label);
    const count = lfm.element("input", { type: "number", min: 1, max: 64, value: 8, class: "number" });
    const seed = lfm.element("input", { type: "number", min: 0, value: 0, class: "number" });
    const generate = lfm.element(
      "button",
      { type: "button", class: "primary", onclick: () => run(askRows) },
      "Generate",
    );
    const edit = lfm.element("button", { type: "button", onclick: () => run(askEdit) }, "Edit this row");
    const message = lfm.element("p", { class: "message", role: "status", hidden: true });
    const result = lfm.element("div", { class: "result" });
    const can = (name) => source.can.has(name);
    const node = lfm.element(
      "div",
      { class: "tool attributes" },
      ...lines.map((entry) => entry.node),
      can("generate")
        ? lfm.element("div", { class: "row-choice" }, generate, field("rows", count), field("seed", seed))
        : null,
      can("edit")
        ? lfm.element(
            "div",
            { class: "row-choice" },
            edit,
            lfm.element("span", { class: "muted" }, "the rest of it stays as it is"),
          )
        : null,
      message,
      result,
    );

    function asked() {
      const chosen = Object.fromEntries(
        lines.filter((entry) => entry.asked.checked).map((entry) => [entry.name, entry.answer()]),
      );
      if (!Object.keys(chosen).length) throw new Error("No attribute is asked for. Set one, or tick its box.");
      return chosen;
    }

    async function run(ask) {
      generate.disabled = edit.disabled = true;
      try {
        const answer = await ask(asked());
        message.textContent = answer.message || "";
        message.hidden = !answer.message;
      } catch (error) {
        app.fail(error);
      } finally {
        generate.disabled = edit.disabled = false;
      }
    }

    // A generated row, to click on.
    function card(row, at) {
      const place = info.views.findIndex(({ kind }) => kind === "picture");
      const go = () => actions.moveTo(row.z, { subject: null, where: `Generated row ${at + 1}` });
      if (place >= 0) {
        const canvas = lfm.pictures.canvas(info.views[place], `Generated row ${at + 1}`);
        lfm.pictures.paint(canvas, info.views[place], row.views[place].mean);
        return lfm.element("button", { type: "button", class: "frame", onclick: go }, canvas);
      }
      const texts = info.views[0].columns
        .slice(0, 4)
        .map((column, k) => `${column.name} ${lfm.cellText(column, row.views[0].cells[k])}`);
      return lfm.element("button", { type: "button", class: "card", onclick: go }, texts.join(" · "));
    }

    async function askRows(attributes) {
      const answer = await source.generate({
        attributes,
        n: Math.min(64, Math.max(1, Number(count.value) || 1)),
        seed: Number(seed.value) || 0,
      });
      result.replaceChildren(
        lfm.element(
          "div",
          { class: info.views.some(({ kind }) => kind === "picture") ? "frames" : "cards" },
          ...answer.rows.map(card),
        ),
      );
      result.scrollIntoView({ block: "nearest" });
      app.say(`${lfm.plural(answer.rows.length, "row")} generated.`);
      return answer;
    }

    // The present point is edited, so that one edit can follow another.
    async function askEdit(attributes) {
      const { z, covariates, labels } = store.state;
      const answer = await source.edit({ z, covariates, labels }, attributes);
      actions.moveTo(answer.z);
      result.replaceChildren(changes(info, answer));
      return answer;
    }
    return node;
  };
})((window.lfm = window.lfm || {}));
