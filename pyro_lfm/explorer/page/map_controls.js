// The controls above the map: which map, which axes, which colour; the tool, and the zoom.
(function (lfm) {
  "use strict";

  const AXES = ["across", "up", "deep"];
  const HINTS = {
    explore: "Drag to decode what lies there, click to choose a row",
    pan: "Drag to move the map",
    lasso: "Draw around rows; with Shift, a rectangle",
  };

  const factorText = (factor) =>
    factor.share === null ? factor.name : `${factor.name} · ${lfm.percent(factor.share)}`;

  // An axis that another has already is swapped with it.
  function withAxis(axes, place, factor) {
    const result = axes.slice();
    const other = result.indexOf(factor);
    if (other >= 0) result[other] = result[place];
    result[place] = factor;
    return result;
  }

  lfm.mapControls = function (app, container) {
    const { info, store, actions } = app;
    const key = ({ kind, dimensions }) => `${kind}${dimensions}`;
    const projections = lfm.projections(info, app.points);
    const kinds = lfm.select(
      "Map",
      projections.map((entry) => [key(entry), entry.title]),
      (value) => {
        const { kind, dimensions } = projections.find((entry) => key(entry) === value);
        actions.chooseMap(kind, dimensions);
      },
      true,
    );
    const axes = AXES.map((name, place) =>
      lfm.select(
        `Axis ${name}`,
        info.factors.map((factor, k) => [k, factorText(factor)]),
        (value) =>
          actions.setMap({ axes: withAxis(store.state.map.axes, place, Number(value)), zoom: 1, centre: [0, 0] }),
        true,
      ),
    );
    const colours = lfm.select("Colour", [["", "none"], ...info.colours.map(({ name }) => [name, name])], (value) =>
      actions.colourBy(value || null),
    );
    const tools = lfm.segments(
      "Tool",
      [
        ["explore", "Explore"],
        ["pan", "Move"],
        ["lasso", "Lasso"],
      ],
      (tool) => store.change({ tool }),
    );
    const turning = lfm.element(
      "button",
      { type: "button", "aria-pressed": "false", onclick: () => actions.toggleTurning() },
      "Spin",
    );
    const hint = lfm.element("span", { class: "muted hint" });
    container.append(
      lfm.element(
        "div",
        { class: "map-choices" },
        kinds.node,
        lfm.element("span", { class: "axes" }, ...axes.map((axis) => axis.node)),
        colours.node,
      ),
      lfm.element("div", { class: "map-actions" }, tools.node, turning, hint),
    );

    function update(state) {
      kinds.set(key(state.map));
      axes.forEach((axis, place) => {
        axis.node.hidden = state.map.kind !== "factors" || place >= state.map.dimensions || info.factors.length === 1;
        axis.set(state.map.axes[place]);
      });
      colours.set(state.colour ?? "");
      tools.set(state.tool);
      hint.textContent =
        state.tool === "pan" && state.map.dimensions === 3 ? "Drag to turn the map" : HINTS[state.tool];
      turning.hidden = state.map.dimensions !== 3;
      turning.setAttribute("aria-pressed", String(Boolean(state.turning)));
    }
    store.subscribe(update);
    update(store.state);
  };
})((window.lfm = window.lfm || {}));
