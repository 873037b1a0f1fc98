// The sliders: factors in the order of variance explained, covariates, and labels as choices.
(function (lfm) {
  "use strict";

  const BINS = 48;

  // Where the rows lie along a factor, behind its slider.
  function histogram(app, place) {
    const { latents } = app.points;
    const [K, factor] = [app.info.factors.length, app.info.factors[place]];
    const counts = new Array(BINS).fill(0);
    for (let at = place; at < latents.length; at += K) {
      const bin = Math.floor(((latents[at] - factor.low) / (factor.high - factor.low || 1)) * BINS);
      if (bin >= 0 && bin < BINS) counts[bin]++;
    }
    const most = Math.max(...counts, 1);
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    const line = counts.map((count, bin) => `L${bin + 0.5} ${(20 * (1 - count / most)).toFixed(2)}`).join("");
    path.setAttribute("d", `M0 20${line}L${BINS} 20Z`);
    for (const [name, value] of [
      ["viewBox", `0 0 ${BINS} 20`],
      ["preserveAspectRatio", "none"],
      ["class", "density"],
      ["aria-hidden", "true"],
    ]) {
      svg.setAttribute(name, value);
    }
    svg.append(path);
    return svg;
  }

  // One slider: {node, set(value)}. `act` gets the number, `text` writes it; a double click puts `rest` back.
  function slider({ name, low, high, rest, text, detail, density }, act) {
    const id = lfm.freshId("slider");
    const input = lfm.element("input", {
      id,
      type: "range",
      min: low,
      max: high,
      step: "any",
      value: rest,
      oninput: () => act(Number(input.value)),
      ondblclick: () => act(rest),
      title: `Double click: ${text(rest)}`,
    });
    const output = lfm.element("output", { for: id, class: "number" });
    const node = lfm.element(
      "div",
      { class: "slider" },
      lfm.element("label", { for: id, title: name }, lfm.element("span", { class: "name" }, name), detail),
      output,
      lfm.element("div", { class: "track" }, density, input),
    );
    function set(value) {
      // A range holds only what lies within its ends; the number beside it is the whole truth.
      input.value = value;
      output.textContent = text(value);
      input.setAttribute("aria-valuetext", text(value));
      node.classList.toggle("outside", value < low || value > high);
    }
    return { node, set };
  }

  // The bar compares with the factor that explains most; the number is the share itself.
  function share(factor, most) {
    if (factor.share === null || factor.share === undefined) return null;
    const bar = lfm.element("span", { class: "share-bar", "aria-hidden": "true" });
    bar.style.setProperty("--share", Math.max(0, factor.share / (most || 1)));
    return lfm.element(
      "span",
      { class: "share", title: "Share of the variance explained" },
      bar,
      lfm.percent(factor.share),
    );
  }

  function group(title, ...nodes) {
    return lfm.element(
      "div",
      { class: "group", role: "group", "aria-label": title },
      lfm.element("h2", {}, title),
      ...nodes,
    );
  }

  function covariateControl(app, covariate) {
    const act = (value) => app.actions.setCovariate(covariate.name, value);
    const text = lfm.formatter(covariate.low, covariate.high);
    if (covariate.kind === "number") return slider({ ...covariate, rest: covariate.value, text }, act);
    return named(covariate.name, lfm.categories(covariate.name, covariate.labels, act));
  }

  function named(name, control) {
    const node = lfm.element(
      "div",
      { class: "category" },
      lfm.element("span", { class: "name", title: name }, name),
      control.node,
    );
    return { node, set: control.set };
  }

  lfm.slidersPanel = function (app, container) {
    const { info, store, actions } = app;
    // One number of decimals for all factors, so that their values stand in a column.
    const ends = info.factors.flatMap(({ low, high }) => [low, high]);
    const text = lfm.formatter(Math.min(...ends), Math.max(...ends));
    const factors = info.factors.map((factor, place) =>
      slider(
        {
          ...factor,
          rest: factor.mean,
          text,
          detail: share(factor, info.factors[0].share),
          density: histogram(app, place),
        },
        (value) => actions.setFactor(place, value),
      ),
    );
    const labels = info.labels.map((label) =>
      named(
        label.name,
        lfm.categories(label.name, label.labels, (code) => actions.setLabel(label.name, code)),
      ),
    );
    const covariates = info.covariates.map((covariate) => covariateControl(app, covariate));
    const button = (text, title, act) => lfm.element("button", { type: "button", onclick: act, title }, text);
    const asEncoded = button("As encoded", "Take back what was edited", actions.asEncoded);
    const heading = lfm.element(
      "div",
      { class: "buttons" },
      button("Mean", "All factors at their mean", actions.toMean),
      button("Random row", "Choose a row by chance", actions.randomRow),
      asEncoded,
    );
    container.append(
      heading,
      group(info.factors.length > 1 ? "Factors" : "Factor", ...factors.map(({ node }) => node)),
    );
    if (labels.length) container.append(group("Labels", ...labels.map(({ node }) => node)));
    if (covariates.length) container.append(group("Covariates", ...covariates.map(({ node }) => node)));

    function update(state, before) {
      if (!before || state.z !== before.z) factors.forEach(({ set }, place) => set(state.z[place]));
      if (!before || state.labels !== before.labels)
        labels.forEach(({ set }, place) => set(state.labels[info.labels[place].name]));
      if (!before || state.covariates !== before.covariates)
        covariates.forEach(({ set }, place) => set(state.covariates[info.covariates[place].name]));
      asEncoded.disabled = !lfm.isEdited(state);
    }
    store.subscribe(update);
    update(store.state);
  };
})((window.lfm = window.lfm || {}));
