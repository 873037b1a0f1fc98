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

  lfm.betweenTool = function (app) {
    const { info, store, actions } = app;
    const numeric = new Set(info.covariates.filter(({ kind }) => kind === "number").map(({ name }) => name));
    const ends = ["a", "b"].map((end) => {
      const name = lfm.element("span", { class: "name muted" }, "not set");
      const set = lfm.element(
        "button",
        { type: "button", onclick: () => actions.setEnd(end) },
        `Present row as ${end.toUpperCase()}`,
      );
      return {
        end,
        name,
        node: lfm.element("div", { class: "end" }, lfm.element("b", {}, end.toUpperCase()), name, set),
      };
    });
    const id = lfm.freshId("between");
    const input = lfm.element("input", {
      id,
      type: "range",
      min: 0,
      max: 1,
      step: "any",
      value: 0,
      oninput: () => actions.setBetween(Number(input.value)),
    });
    const output = lfm.element("output", { for: id, class: "number" });
    const play = lfm.element("button", { type: "button", onclick: toggle, "aria-pressed": "false" }, "Play");
    const strip = lfm.element("div", { class: "strip" });
    const walk = lfm.element(
      "div",
      { class: "walk" },
      lfm.element("label", { for: id }, "From A to B"),
      output,
      input,
      play,
    );
    const hint = lfm.element("p", { class: "muted" }, "Choose a row and set it as A, then another as B.");
    const node = lfm.element("div", { class: "tool between" }, ...ends.map((end) => end.node), hint, walk, strip);
    let playing = 0;

    // Frames are decoded one after another; a strip of an older pair stops when A or B changes.
    async function fillStrip(a, b) {
      const shares = Array.from({ length: STEPS }, (_, at) => at / (STEPS - 1));
      const frames = [];
      for (const share of shares) {
        frames.push((await app.source.decode(lfm.pointBetween(a, b, share)(numeric))).views);
        if (store.state.a !== a || store.state.b !== b) return;
      }
      const nodes = info.views.map((view, place) => {
        if (view.kind === "columns")
          return columnLines(
            view,
            frames.map((frame) => frame[place].cells),
          );
        return lfm.element(
          "div",
          { class: "frames" },
          ...frames.map((frame, at) => {
            const canvas = lfm.pictures.canvas(view, `${Math.round(100 * shares[at])}% of the way`);
            lfm.pictures.paint(canvas, view, frame[place].mean);
            return lfm.element(
              "button",
              { type: "button", class: "frame", onclick: () => actions.setBetween(shares[at]) },
              canvas,
            );
          }),
        );
      });
      strip.replaceChildren(...nodes);
    }

    function toggle() {
      playing = playing ? 0 : performance.now();
      play.setAttribute("aria-pressed", String(Boolean(playing)));
      play.textContent = playing ? "Stop" : "Play";
      if (playing) requestAnimationFrame(step);
    }

    // There and back. Whoever asked for less motion gets the frames of the strip, not what lies between.
    function step(now) {
      if (!playing || !store.state.a || !store.state.b) return;
      const phase = ((now - playing) / (1000 * SECONDS)) % 2;
      const share = Math.max(0, phase < 1 ? phase : 2 - phase);
      const shown = lfm.theme.calm() ? Math.round(share * (STEPS - 1)) / (STEPS - 1) : share;
      if (shown !== store.state.between) actions.setBetween(shown);
      requestAnimationFrame(step);
    }

    function update(state, before) {
      input.value = state.between;
      output.textContent = `${Math.round(100 * state.between)}%`;
      if (before && state.a === before.a && state.b === before.b) return;
      ends.forEach(({ end, name }) => (name.textContent = name.title = state[end] ? state[end].name : "not set"));
      const both = Boolean(state.a && state.b);
      walk.hidden = strip.hidden = !both;
      hint.hidden = both;
      strip.replaceChildren();
      if (both) fillStrip(state.a, state.b).catch((error) => app.fail(error));
    }
    store.subscribe(update);
    update(store.state);
    return node;
  };
})((window.lfm = window.lfm || {}));
