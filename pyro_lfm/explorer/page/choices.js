// Choices: a labelled list to choose from, or buttons side by side where there are few and short ones.
(function (lfm) {
  "use strict";

  // A <select>. options: [[value, text]]; `change` gets the value as text.
  lfm.select = function (label, options, change, hideLabel = false) {
    const id = lfm.freshId("select");
    const node = lfm.element("select", { id, onchange: () => change(node.value) });
    const fill = (list) => node.replaceChildren(...list.map(([value, text]) => lfm.element("option", { value }, text)));
    fill(options);
    const caption = lfm.element("label", { for: id, class: hideLabel ? "unseen" : "" }, label);
    return {
      node: lfm.element("span", { class: "choice" }, caption, node),
      fill,
      get value() {
        return node.value;
      },
      set: (value) => (node.value = String(value)),
    };
  };

  // Radio buttons drawn as one bar. Arrow keys move between them, as in every group of radio buttons.
  lfm.segments = function (label, options, change) {
    const name = lfm.freshId("segments");
    const inputs = new Map();
    const parts = options.map(([value, text]) => {
      const input = lfm.element("input", { type: "radio", name, value, onchange: () => change(value) });
      inputs.set(String(value), input);
      return lfm.element("label", {}, input, lfm.element("span", {}, text));
    });
    const node = lfm.element("div", { class: "segments", role: "radiogroup", "aria-label": label }, ...parts);
    return { node, set: (value) => inputs.has(String(value)) && (inputs.get(String(value)).checked = true) };
  };

  // Codes of labels: segments if they fit on a line, otherwise a list.
  lfm.categories = function (label, labels, change) {
    const options = labels.map((text, code) => [code, String(text)]);
    const letters = labels.reduce((sum, text) => sum + String(text).length + 2.5, 0);
    if (letters <= 42 && labels.length <= 10) return lfm.segments(label, options, (code) => change(Number(code)));
    return lfm.select(label, options, (code) => change(Number(code)), true);
  };
})((window.lfm = window.lfm || {}));
