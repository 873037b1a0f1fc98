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

  // A slider for a number, choices for labels. `set` gets the number or the code.
  function control(attribute, value, set) {
    if (attribute.kind !== "number") {
      const labels = attribute.kind === "binary" ? pair(attribute.labels) : attribute.labels;
      const choices = lfm.categories(attribute.name, labels, set);
      choices.set(value);
      return [choices.node];
    }
    const text = lfm.formatter(attribute.low, attribute.high);
    const output = lfm.element("output", { class: "number" }, text(value));
    const input = lfm.element("input", {
      type: "range",
      min: attribute.low,
      max: attribute.high,
      step: "any",
      value,
      "aria-label": attribute.name,
      oninput: () => (set(Number(input.value)), (output.textContent = text(Number(input.value)))),
    });
    return [input, output];
  }

  function scoreText({ score, error, measure }) {
    if (score === null || score === undefined) return "";
    return `${measure} ${score.toFixed(2)}${error ? ` ± ${error.toFixed(2)}` : ""}`;
  }

  // One line of the form: a box that asks for the attribute, its value, and how well the model knows it.
  function line(attribute) {
    const id = lfm.freshId("attribute");
    const asked = lfm.element("input", { id, type: "checkbox" });
    let value = { number: (attribute.low + attribute.high) / 2, binary: 1, category: 0 }[attribute.kind];
    const set = (chosen) => {
      value = chosen;
      asked.checked = true;
    };
    const node = lfm.element(
      "div",
      { class: "attribute" },
      asked,
      lfm.element("label", { for: id, title: attribute.name }, attribute.name),
      lfm.element("span", { class: "value" }, ...control(attribute, value, set)),
      lfm.element(
        "span",
        { class: "score muted number", title: "How well the latent factors tell it, on rows held out" },
        scoreText(attribute),
      ),
    );
    // A binary attribute is asked for as true or false, a category by its label.
    const answers = { number: () => value, binary: () => Boolean(value), category: () => attribute.labels[value] };
    return { name: attribute.name, node, asked, answer: answers[attribute.kind] };
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

  // A generated row, to click on.
  function card({ info, actions }, row, at) {
    const name = `Generated row ${at + 1}`;
    const place = info.views.findIndex(({ kind }) => kind === "picture");
    const onclick = () => actions.moveTo(row.z, { subject: null, where: name });
    if (place >= 0) {
      const canvas = lfm.pictures.canvas(info.views[place], name);
      lfm.pictures.paint(canvas, info.views[place], row.views[place].mean);
      return lfm.element("button", { type: "button", class: "frame", onclick }, canvas);
    }
    const { cells } = row.views[0];
    const texts = info.views[0].columns
      .slice(0, 4)
      .map((column, k) => `${column.name} ${lfm.cellText(column, cells[k])}`);
    return lfm.element("button", { type: "button", class: "card", onclick }, texts.join(" · "));
  }

  function cards(app, rows) {
    const pictures = app.info.views.some(({ kind }) => kind === "picture");
    return lfm.element("div", { class: pictures ? "frames" : "cards" }, ...rows.map((row, at) => card(app, row, at)));
  }

  function numberField(label, value, most) {
    const input = lfm.element("input", {
      type: "number",
      min: label === "rows" ? 1 : 0,
      max: most,
      value,
      class: "number",
    });
    const whole = () => Math.min(most, Math.max(Number(input.min), Math.round(Number(input.value)) || 0));
    return { node: lfm.element("label", { class: "field" }, input, label), whole };
  }

  lfm.attributesTool = function (app) {
    const { info, source, store, actions } = app;
    const lines = info.attributes.map(line);
    const [count, seed] = [numberField("rows", 8, 64), numberField("seed", 0, 2 ** 31 - 1)];
    const act = (ask) => () => run(ask);
    const generate = lfm.element("button", { type: "button", class: "primary", onclick: act(askRows) }, "Generate");
    const edit = lfm.element("button", { type: "button", onclick: act(askEdit) }, "Edit this row");
    const message = lfm.element("p", { class: "message", role: "status", hidden: true });
    const result = lfm.element("div", { class: "result" });
    const stays = lfm.element("span", { class: "muted" }, "the rest of it stays as it is");
    const wishes = lfm.element("div", { class: "row-choice" }, generate, count.node, seed.node);
    const edits = lfm.element("div", { class: "row-choice" }, edit, stays);
    wishes.hidden = !source.can.has("generate");
    edits.hidden = !source.can.has("edit");

    async function run(ask) {
      const chosen = lines.filter((entry) => entry.asked.checked).map((entry) => [entry.name, entry.answer()]);
      if (!chosen.length) return app.fail(new Error("No attribute is asked for. Set one, or tick its box."));
      generate.disabled = edit.disabled = true;
      try {
        const answer = await ask(Object.fromEntries(chosen));
        message.textContent = answer.message || "";
        message.hidden = !answer.message;
        result.scrollIntoView({ block: "nearest" });
      } catch (error) {
        app.fail(error);
      }
      generate.disabled = edit.disabled = false;
    }

    async function askRows(attributes) {
      const answer = await source.generate({ attributes, n: count.whole(), seed: seed.whole() });
      result.replaceChildren(cards(app, answer.rows));
      app.say(`${lfm.plural(answer.rows.length, "row")} generated.`);
      return answer;
    }

    // The present point is edited, so that one edit can follow another.
    async function askEdit(attributes) {
      const { z, covariates, labels } = store.state;
      const answer = await source.edit({ z, covariates, labels }, attributes);
      actions.moveTo(answer.z);
      result.replaceChildren(changes(info, answer));
      app.say("The row is edited.");
      return answer;
    }

    const form = lines.map((entry) => entry.node);
    return lfm.element("div", { class: "tool attributes" }, ...form, wishes, edits, message, result);
  };
})((window.lfm = window.lfm || {}));
