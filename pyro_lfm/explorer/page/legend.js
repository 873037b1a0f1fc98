// The legend of the map: a button for each category, which selects its rows, or a scale of numbers.
(function (lfm) {
  "use strict";

  function swatch({ rgb, shape }) {
    const canvas = lfm.element("canvas", { width: 24, height: 24, class: "swatch", "aria-hidden": "true" });
    const context = canvas.getContext("2d");
    context.strokeStyle = context.fillStyle = lfm.palette.css(rgb);
    context.lineWidth = 5;
    context.beginPath();
    if (shape === "cross") {
      (context.moveTo(12, 2), context.lineTo(12, 22), context.moveTo(2, 12), context.lineTo(22, 12), context.stroke());
    } else if (shape === "square") context.fillRect(3, 3, 18, 18);
    else {
      context.arc(12, 12, shape === "ring" ? 7.5 : 10, 0, 2 * Math.PI);
      shape === "ring" ? context.stroke() : context.fill();
    }
    return canvas;
  }

  function scale(colour, colouring) {
    const canvas = lfm.element("canvas", { width: 64, height: 1, class: "ramp", "aria-hidden": "true" });
    const image = canvas.getContext("2d").createImageData(64, 1);
    for (let at = 0; at < 64; at++) image.data.set([...colouring.markers[at].rgb.map(Math.round), 255], 4 * at);
    canvas.getContext("2d").putImageData(image, 0, 0);
    const text = lfm.formatter(colour.low, colour.high);
    const nodes = [lfm.element("span", {}, text(colour.low)), canvas, lfm.element("span", {}, text(colour.high))];
    if (colouring.missing) {
      nodes.push(
        swatch(colouring.markers[64]),
        lfm.element("span", { class: "muted" }, `missing (${colouring.missing.toLocaleString("en")})`),
      );
    }
    return lfm.element(
      "div",
      { class: "scale", role: "img", "aria-label": `Colours from ${text(colour.low)} to ${text(colour.high)}` },
      ...nodes,
    );
  }

  lfm.legend = function (app, container) {
    function show(colour, colouring, values) {
      container.replaceChildren();
      if (!colour) return;
      if (!colouring.entries) return container.append(scale(colour, colouring));
      for (const entry of colouring.entries) {
        const codes = new Set(entry.codes);
        const select = () => {
          const rows = [];
          values.forEach((code, row) => (codes.has(code) || (!codes.size && !(code >= 0)) ? rows.push(row) : null));
          app.actions.select(Uint32Array.from(rows), `${colour.name} ${entry.text}`);
        };
        container.append(
          lfm.element(
            "button",
            {
              type: "button",
              class: "entry",
              onclick: select,
              title: `Select the rows with ${colour.name} ${entry.text}`,
            },
            swatch(colouring.markers[entry.marker]),
            lfm.element("span", {}, entry.text),
            lfm.element("span", { class: "muted number" }, entry.count.toLocaleString("en")),
          ),
        );
      }
    }
    // Some colours, as the bound of each row, are computed when they are first asked for.
    const waiting = (text) => container.replaceChildren(lfm.element("span", { class: "muted" }, text));
    return { show, waiting };
  };
})((window.lfm = window.lfm || {}));
