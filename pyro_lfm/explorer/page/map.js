// The map of the rows: points on one canvas, what lies over them on another, and what pointer and keys do there.
(function (lfm) {
  "use strict";

  const REACH = 14;
  const KEYS = "Arrow keys move the present point; with Shift they move the map, or turn it in 3-D. Plus and minus zoom, 0 shows all, "
    + "Enter chooses the nearest row, Escape clears the selection.";

  lfm.mapPanel = function (app, container) {
    const { info, store, actions } = app;
    const rows = info.rows;
    const controls = lfm.element("div", { class: "map-controls" });
    const base = lfm.element("canvas", { class: "map-points" });
    const over = lfm.element("canvas", { class: "map-overlay" });
    const hint = lfm.element("p", { id: lfm.freshId("keys"), class: "unseen" }, KEYS);
    const button = (text, label, act) => lfm.element("button", { type: "button", "aria-label": label, title: label, onclick: act }, text);
    const zooms = lfm.element("div", { class: "zooms" }, button("+", "Zoom in", () => zoom(1.5)), button("\u2212", "Zoom out", () => zoom(1 / 1.5)),
      button("⤢", "Show all", () => actions.setMap({ zoom: 1, centre: [0, 0] })));
    const stage = lfm.element("div", { class: "stage", id: "stage", tabindex: 0, role: "application", "aria-label": `Map of ${lfm.plural(rows, "row")}`, "aria-describedby": hint.id },
      base, over, zooms);
    const legendNode = lfm.element("div", { class: "legend", id: "legend" });
    container.append(controls, stage, hint, legendNode);
    lfm.mapControls(app, controls);
    const legend = lfm.legend(app, legendNode);
    const tooltip = lfm.tooltip(app, stage);

    const context = base.getContext("2d", { willReadFrequently: true });
    const [x, y, depth] = [new Float32Array(rows), new Float32Array(rows), new Float32Array(rows)];
    const order = lfm.points.shuffled(rows);
    const view = { projection: null, key: "", camera: null, image: null, ratio: 1, colouring: null, selected: null, hovered: null, line: null };
    let due = { points: true, overlay: true };
    let frame = 0;

    function project(state) {
      const key = JSON.stringify([state.map.kind, state.map.dimensions, state.map.axes]);
      if (key !== view.key) Object.assign(view, { key, projection: lfm.projection(info, app.points, state.map) });
    }

    function resize() {
      view.ratio = Math.min(2, window.devicePixelRatio || 1);
      const [width, height] = [stage.clientWidth, stage.clientHeight].map((size) => Math.max(1, Math.round(size * view.ratio)));
      if (!view.image || base.width !== width || base.height !== height) {
        for (const canvas of [base, over]) Object.assign(canvas, { width, height });
        view.image = context.createImageData(width, height);
      }
      redraw(true);
    }

    function redraw(points) {
      due = { points: due.points || points, overlay: true };
      frame = frame || requestAnimationFrame(paint);
    }

    function paintPoints(state) {
      view.camera.projectAll(view.projection.coordinates, x, y, depth);
      // Points are kept in CSS pixels, where the pointer is; the image has more of them on fine screens.
      const scaled = view.ratio === 1 ? [x, y] : [x.map((value) => value * view.ratio), y.map((value) => value * view.ratio)];
      const shape = view.colouring.markers.some(({ shape }) => shape !== "disc") ? 1.15 : 1;
      lfm.points.draw(view.image, {
        x: scaled[0], y: scaled[1], depth: view.projection.dimensions === 3 ? depth : null, order,
        codes: view.colouring.codes, markers: view.colouring.markers, selected: view.selected,
        radius: lfm.points.radius(rows, state.map.zoom, view.ratio) * shape,
        opacity: rows > 20000 ? 0.6 : rows > 3000 ? 0.75 : 0.9, paper: view.palette.plot,
      });
      context.putImageData(view.image, 0, 0);
    }

    function paint() {
      frame = 0;
      const { state } = store;
      if (!view.image || !view.colouring) return;
      project(state);
      view.camera = lfm.camera(view.projection, state.map, stage.clientWidth, stage.clientHeight);
      if (due.points) paintPoints(state);
      const colours = Object.fromEntries(Object.entries(view.palette).map(([name, rgb]) => [name, lfm.palette.css(rgb)]));
      lfm.drawOverlay(over, view.ratio, {
        camera: view.camera, projection: view.projection, colours, level: info.levels, present: state.z,
        subject: state.subject && state.subject.encoded, ends: state, line: view.line,
        hovered: view.hovered && { place: [x[view.hovered.row], y[view.hovered.row]], encoded: view.hovered.encoded },
      });
      due = { points: false, overlay: false };
      app.drawn += 1;
    }

    function recolour() {
      const colour = info.colours.find(({ name }) => name === store.state.colour) || null;
      view.palette = lfm.theme.colours();
      view.colouring = lfm.colouring(app.colourValues, colour, rows);
      legend.show(colour, view.colouring, app.colourValues);
      redraw(true);
    }

    function pan(dx, dy, always) {
      const { map } = store.state;
      if (map.dimensions === 3 && !always) {
        const pitch = Math.max(-1.5, Math.min(1.5, map.turn[1] + dy * 0.008));
        return actions.setMap({ turn: [map.turn[0] + dx * 0.008, pitch] });
      }
      const { scale } = view.camera;
      actions.setMap({ centre: [map.centre[0] - dx / scale[0], map.centre[1] + dy / scale[1]] });
    }

    // The place under the pointer stays where it is.
    function zoom(factor, place = [stage.clientWidth / 2, stage.clientHeight / 2]) {
      const { map } = store.state;
      const next = Math.min(400, Math.max(0.3, map.zoom * factor));
      const { scale, width, height } = lfm.camera(view.projection, map, stage.clientWidth, stage.clientHeight);
      const shift = 1 - map.zoom / next;
      actions.setMap({
        zoom: next,
        centre: [map.centre[0] + ((place[0] - width / 2) / scale[0]) * shift, map.centre[1] - ((place[1] - height / 2) / scale[1]) * shift],
      });
    }

    function explore(place) {
      const { z } = store.state;
      actions.moveTo(view.projection.inverse(view.camera.fromScreen(place, view.projection.forward(z)), z));
    }

    function click(place) {
      const row = lfm.points.nearest(x, y, place, REACH);
      if (row >= 0) actions.chooseRow(row);
      else if (store.state.tool === "explore") explore(place);
    }

    const ask = lfm.latest((row) => app.rowOf(row), (encoded, row) => {
      if (!view.hovered || view.hovered.row !== row) return;
      view.hovered.encoded = encoded;
      tooltip.show(row, encoded, [x[row], y[row]]);
      redraw(false);
    }, () => {});

    function hover(place) {
      const row = place ? lfm.points.nearest(x, y, place, REACH) : -1;
      if (row === (view.hovered ? view.hovered.row : -1)) return;
      view.hovered = row < 0 ? null : { row, encoded: null };
      if (row < 0) tooltip.hide(), ask.forget();
      else ask(row);
      redraw(false);
    }

    function lasso(line, done) {
      view.line = done ? null : line;
      if (done) actions.select(lfm.points.inside(x, y, line), "lasso");
      redraw(false);
    }

    function key(name, arrow, shift) {
      if (arrow && shift) return pan(-arrow[0] * 40, -arrow[1] * 40), true;
      if (arrow) {
        const [px, py] = view.camera.toScreen(view.projection.forward(store.state.z));
        return explore([px + arrow[0] * 8, py + arrow[1] * 8]), true;
      }
      const acts = {
        "+": () => zoom(1.3), "=": () => zoom(1.3), "-": () => zoom(1 / 1.3), 0: () => actions.setMap({ zoom: 1, centre: [0, 0] }),
        Enter: () => actions.chooseRow(nearestRows(1)[0]), Escape: () => actions.select(null),
      };
      return acts[name] ? (acts[name](), true) : false;
    }

    // The rows nearest to the present point, as the map shows them.
    function nearestRows(count) {
      const [px, py] = view.camera.toScreen(view.projection.forward(store.state.z));
      const distance = Float64Array.from(x, (value, row) => Math.hypot(value - px, y[row] - py));
      return Array.from(order).sort((a, b) => distance[a] - distance[b] || a - b).slice(0, count);
    }

    lfm.gestures(stage, () => store.state.tool, { hover, click, explore, pan, zoom, lasso, key });
    store.subscribe((state, before) => {
      if (state.selected !== before.selected) {
        view.selected = state.selected && new Uint8Array(rows);
        if (state.selected) for (const row of state.selected) view.selected[row] = 1;
      }
      stage.dataset.tool = state.tool;
      if (state.map !== before.map) tooltip.hide(), (view.hovered = null);
      const points = state.map !== before.map || state.selected !== before.selected;
      if (points || ["z", "subject", "a", "b"].some((name) => state[name] !== before[name])) redraw(points);
    });
    stage.dataset.tool = store.state.tool;
    lfm.theme.onChange(recolour);
    new ResizeObserver(resize).observe(stage);

    // Where a row lies in the window, in CSS pixels.
    function placeOf(row) {
      const box = stage.getBoundingClientRect();
      return [box.left + x[row], box.top + y[row]];
    }
    return { recolour, nearestRows, placeOf, settled: () => ask.settled(), busy: () => frame !== 0 };
  };
})((window.lfm = window.lfm || {}));
