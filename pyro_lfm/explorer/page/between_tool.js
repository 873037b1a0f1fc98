// The tool "Between": from a row A to a row B, step by step along the line that joins them.
(function (lfm) {
  "use strict";

  const STEPS = 7;
  const SECONDS = 3;

  // The point at a share of the way. Numbers move along; labels and categories change half way.
  lfm.pointBetween = function (a, b, share) {
    const mix = (from, to) => from + share * (to - from);
    const values = (from, to, numeric) =>
      Object.fromEntries(
        Object.keys(from).map((name) => [
          name,
          numeric.has(name) ? mix(from[name], to[name]) : share < 0.5 ? from[name] : to[name],
        ]),
      );
    return (numeric) => ({
      z: a.z.map((value, k) => mix(value, b.z[k])),
      covariates: values(a.covariates, b.covariates, numeric),
      labels: values(a.labels, b.labels, new Set()),
    });
  };

  // The columns that change most on the way, as lines.
  function columnLines(view, frames) {
    const tracks = view.columns.map((column, place) => {
      const values = frames.map((frame) => lfm.cellNumber(frame[place]));
      const range = column.labels && column.labels.length ? column.labels.length - 1 : column.high - column.low;
      return { column, place, values, change: Math.abs(values[values.length - 1] - values[0]) / (range || 1) };
    });
    const rows = tracks
      .sort((a, b) => b.change - a.change)
      .slice(0, 8)
      .map(({ column, place, values }) => {
        const [low, high] = [Math.min(...values), Math.max(...values)];
        const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
        const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
        line.setAttribute(
          "points",
          values.map((value, at) => `${at * 10},${18 - 16 * ((value - low) / (high - low || 1))}`).join(" "),
        );
        svg.setAttribute("viewBox", `-1 0 ${10 * (values.length - 1) + 2} 20`);
        svg.setAttribute("class", "spark");
        svg.setAttribute("aria-hidden", "true");
        svg.append(line);
        const cell = (at) => lfm.element("td", { class: "number" }, lfm.cellText(column, frames[at][place]));
        return lfm.element(
          "tr",
          {},
          lfm.element("th", { scope: "row", title: column.name }, column.name),
          cell(0),
          lfm.element("td", {}, svg),
          cell(frames.length - 1),
        );
      });
    return lfm.element("table", { class: "lines" }, ...rows);
  }

  // Decodes the way step by step; null once `still()` says that it is another way that is wanted.
  async function framesBetween(app, a, b, numeric, still) {
    const frames = [];
    for (let step = 0; step < STEPS; step++) {
      frames.push((await app.source.decode(lfm.pointBetween(a, b, step / (STEPS - 1))(numeric))).views);
      if (!still()) return null;
    }
    return frames;
  }

  // A strip of pictures, each a button that leads there.
  function pictureStrip(app, view, pictures) {
    const cards = pictures.map(({ mean }, step) => {
      const share = step / (STEPS - 1);
      const canvas = lfm.pictures.canvas(view, `${Math.round(100 * share)}% of the way`);
      lfm.pictures.paint(canvas, view, mean);
      return lfm.element(
        "button",
        { type: "button", class: "frame", onclick: () => app.actions.setBetween(share) },
        canvas,
      );
    });
    return lfm.element("div", { class: "frames" }, ...cards);
  }

  // The button that plays the way there and back. Whoever asked for less motion gets the frames of the strip alone.
  function playButton({ store, actions }) {
    let start = 0;
    const button = lfm.element("button", { type: "button", onclick: toggle, "aria-pressed": "false" }, "Play");
    function toggle() {
      start = start ? 0 : performance.now();
      button.setAttribute("aria-pressed", String(Boolean(start)));
      button.textContent = start ? "Stop" : "Play";
      if (start) requestAnimationFrame(step);
    }
    function step(now) {
      if (!start || !store.state.a || !store.state.b) return;
      const phase = ((now - start) / (1000 * SECONDS)) % 2;
      const share = Math.max(0, phase < 1 ? phase : 2 - phase);
      const shown = lfm.theme.calm() ? Math.round(share * (STEPS - 1)) / (STEPS - 1) : share;
      if (shown !== store.state.between) actions.setBetween(shown);
      requestAnimationFrame(step);
    }
    return button;
  }

  // One end: its name, and the button that sets it.
  function endLine({ actions }, end) {
    const letter = end.toUpperCase();
    const name = lfm.element("span", { class: "name muted" });
    const set = lfm.element(
      "button",
      { type: "button", onclick: () => actions.setEnd(end) },
      `Present row as ${letter}`,
    );
    const node = lfm.element("div", { class: "end" }, lfm.element("b", {}, letter), name, set);
    return { node, show: (point) => (name.textContent = name.title = point ? point.name : "not set") };
  }

  // The slider from A to B.
  function walkLine(app) {
    const id = lfm.freshId("between");
    const act = () => app.actions.setBetween(Number(input.value));
    const input = lfm.element("input", { id, type: "range", min: 0, max: 1, step: "any", value: 0, oninput: act });
    const output = lfm.element("output", { for: id, class: "number" });
    const label = lfm.element("label", { for: id }, "From A to B");
    const node = lfm.element("div", { class: "walk" }, label, output, input, playButton(app));
    function show(share) {
      input.value = share;
      output.textContent = `${Math.round(100 * share)}%`;
    }
    return { node, show };
  }

  lfm.betweenTool = function (app) {
    const { info, store } = app;
    const numeric = new Set(info.covariates.filter(({ kind }) => kind === "number").map(({ name }) => name));
    const [a, b, walk] = [endLine(app, "a"), endLine(app, "b"), walkLine(app)];
    const hint = lfm.element("p", { class: "muted" }, "Choose a row and set it as A, then another as B.");
    const strip = lfm.element("div", { class: "strip" });
    const node = lfm.element("div", { class: "tool between" }, a.node, b.node, hint, walk.node, strip);

    async function fillStrip(from, to) {
      const still = () => store.state.a === from && store.state.b === to;
      const frames = await framesBetween(app, from, to, numeric, still);
      if (!frames) return;
      const parts = info.views.map((view, place) => {
        const shown = frames.map((frame) => frame[place]);
        if (view.kind === "picture") return pictureStrip(app, view, shown);
        return columnLines(
          view,
          shown.map(({ cells }) => cells),
        );
      });
      strip.replaceChildren(...parts);
    }

    function update(state, before) {
      walk.show(state.between);
      if (before && state.a === before.a && state.b === before.b) return;
      a.show(state.a);
      b.show(state.b);
      const both = Boolean(state.a && state.b);
      walk.node.hidden = strip.hidden = !both;
      hint.hidden = both;
      strip.replaceChildren();
      if (both) fillStrip(state.a, state.b).catch(app.fail);
    }
    store.subscribe(update);
    update(store.state);
    return node;
  };
})((window.lfm = window.lfm || {}));
