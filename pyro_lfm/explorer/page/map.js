// The map of the rows: the stage and its controls, and what pointer and keys do there.
(function (lfm) {
  "use strict";

  const REACH = 14;
  const STEP = 8;
  const KEYS =
    "Arrow keys move the present point; with Shift they move the map, or turn it in 3-D. Plus and minus zoom, " +
    "0 shows all, Enter chooses the nearest row, Escape clears the selection.";

  // Moves and zooms: each changes the part of the state that says how the map is seen.
  function cameraMoves(app, view) {
    const { store, actions } = app;

    function pan(dx, dy, flat) {
      const { map } = store.state;
      if (map.dimensions === 3 && !flat) {
        const pitch = Math.max(-1.5, Math.min(1.5, map.turn[1] + dy * 0.008));
        return actions.setMap({ turn: [map.turn[0] + dx * 0.008, pitch] });
      }
      const { scale } = view.aim();
      actions.setMap({ centre: [map.centre[0] - dx / scale[0], map.centre[1] + dy / scale[1]] });
    }

    // What lies under `place`, by default the middle, stays where it is.
    function zoom(factor, place) {
      const { map } = store.state;
      const { scale, width, height } = view.aim();
      const [x, y] = place || [width / 2, height / 2];
      const next = Math.min(400, Math.max(0.3, map.zoom * factor));
      const shift = 1 - map.zoom / next;
      const centre = [
        map.centre[0] + ((x - width / 2) / scale[0]) * shift,
        map.centre[1] - ((y - height / 2) / scale[1]) * shift,
      ];
      actions.setMap({ zoom: next, centre });
    }

    return { pan, zoom, fit: () => actions.setMap({ zoom: 1, centre: [0, 0] }) };
  }

  // The row under the pointer is marked at once; its note comes with the answer of the source.
  function hovering(app, view, tooltip) {
    const ask = lfm.latest(
      (row) => app.rowOf(row),
      (encoded, row) => {
        if (!view.hovered || view.hovered.row !== row) return;
        view.hovered.encoded = encoded;
        tooltip.show(row, encoded, view.place(row));
        view.redraw(false);
      },
      () => tooltip.hide(),
    );

    function hover(place) {
      const row = place ? lfm.points.nearest(view.x, view.y, place, REACH) : -1;
      if (row === (view.hovered ? view.hovered.row : -1)) return;
      view.hovered = row < 0 ? null : { row, encoded: null };
      if (row < 0) {
        tooltip.hide();
        ask.forget();
      } else ask(row);
      view.redraw(false);
    }
    return { hover, settled: ask.settled };
  }

  function keyActs(app, view, moves, explore, nearestRows) {
    const acts = {
      "+": () => moves.zoom(1.3),
      "=": () => moves.zoom(1.3),
      "-": () => moves.zoom(1 / 1.3),
      0: moves.fit,
      Enter: () => app.actions.chooseRow(nearestRows(1)[0]),
      Escape: () => app.actions.select(null),
    };
    // Whether the key means something here.
    return function (name, arrow, shift) {
      const [x, y] = view.present();
      if (arrow && shift) moves.pan(-arrow[0] * 5 * STEP, -arrow[1] * 5 * STEP);
      else if (arrow) explore([x + arrow[0] * STEP, y + arrow[1] * STEP]);
      else if (acts[name]) acts[name]();
      else return false;
      return true;
    };
  }

  function stageOf(app, hint) {
    const label = `Map of ${lfm.plural(app.info.rows, "row")}`;
    return lfm.element("div", {
      class: "stage",
      id: "stage",
      tabindex: 0,
      role: "application",
      "aria-label": label,
      "aria-describedby": hint.id,
    });
  }

  function zoomButtons(moves) {
    const button = (text, label, act) =>
      lfm.element("button", { type: "button", "aria-label": label, title: label, onclick: act }, text);
    return lfm.element(
      "div",
      { class: "zooms" },
      button("+", "Zoom in", () => moves.zoom(1.5)),
      button("\u2212", "Zoom out", () => moves.zoom(1 / 1.5)),
      button("⤢", "Show all", moves.fit),
    );
  }

  // What the map shows follows the state.
  function follow(app, view, stage, tooltip) {
    app.store.subscribe((state, before) => {
      stage.dataset.tool = state.tool;
      if (state.selected !== before.selected) view.select(state.selected);
      if (state.map !== before.map) {
        tooltip.hide();
        view.hovered = null;
        view.redraw(true);
      }
      if (["z", "subject", "a", "b"].some((name) => state[name] !== before[name])) view.redraw(false);
    });
    stage.dataset.tool = app.store.state.tool;
  }

  lfm.mapPanel = function (app, container) {
    const { store, actions } = app;
    const hint = lfm.element("p", { id: lfm.freshId("keys"), class: "unseen" }, KEYS);
    const [controls, legendNode] = [
      lfm.element("div", { class: "map-controls" }),
      lfm.element("div", { class: "legend", id: "legend" }),
    ];
    const stage = stageOf(app, hint);
    const view = new lfm.MapView(app, stage);
    const moves = cameraMoves(app, view);
    stage.append(zoomButtons(moves));
    container.append(controls, stage, hint, legendNode);
    lfm.mapControls(app, controls);
    const legend = lfm.legend(app, legendNode);
    const tooltip = lfm.tooltip(app, stage);
    const { hover, settled } = hovering(app, view, tooltip);
    const explore = (place) => actions.moveTo(view.latent(place));

    // The rows nearest to the present point, as the map shows them.
    function nearestRows(count) {
      const [px, py] = view.present();
      const distance = Float64Array.from(view.x, (value, row) => Math.hypot(value - px, view.y[row] - py));
      return Array.from(view.order)
        .sort((a, b) => distance[a] - distance[b] || a - b)
        .slice(0, count);
    }
    function click(place) {
      const row = lfm.points.nearest(view.x, view.y, place, REACH);
      if (row >= 0) actions.chooseRow(row);
      else if (store.state.tool === "explore") explore(place);
    }
    function lasso(line, done) {
      view.line = done ? null : line;
      if (done) actions.select(lfm.points.inside(view.x, view.y, line), "lasso");
      view.redraw(false);
    }
    const key = keyActs(app, view, moves, explore, nearestRows);
    new lfm.Gestures(stage, () => store.state.tool, {
      hover,
      click,
      explore,
      pan: moves.pan,
      zoom: moves.zoom,
      lasso,
      key,
    });
    follow(app, view, stage, tooltip);

    // {colour, values}: an entry of info.colours with its range, or null.
    let present = { colour: null, values: null };
    function recolour(chosen = present) {
      present = chosen;
      view.recolour(chosen.colour, chosen.values);
      legend.show(chosen.colour, view.colouring, chosen.values);
    }
    lfm.theme.onChange(() => recolour());
    // Where a row lies in the window, in CSS pixels.
    function placeOf(row) {
      const box = stage.getBoundingClientRect();
      return [box.left + view.x[row], box.top + view.y[row]];
    }
    function draw() {
      view.pointsDue = true;
      view.paint();
    }
    return { recolour, waiting: legend.waiting, nearestRows, placeOf, draw, settled, busy: () => view.frame !== 0 };
  };
})((window.lfm = window.lfm || {}));
