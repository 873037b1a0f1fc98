// Pointer, wheel and keys on the map, as calls of a few handlers. One pointer acts by the tool; two fingers pinch.
(function (lfm) {
  "use strict";

  const STILL = 4;
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  // handlers: hover(place or null), click(place), explore(place), pan(dx, dy, flat), zoom(factor, place),
  // lasso(line or null, done), key(name, arrow or null, shift). Places are in CSS pixels from the corner of the stage.
  lfm.gestures = function (stage, tool, handlers) {
    const fingers = new Map();
    let drag = null;

    const place = (event) => {
      const box = stage.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };

    function pinch() {
      const [[ax, ay], [bx, by]] = [...fingers.values()];
      return { middle: [(ax + bx) / 2, (ay + by) / 2], spread: Math.hypot(ax - bx, ay - by) || 1 };
    }

    function shape(from, to) {
      return [from, [to[0], from[1]], to, [from[0], to[1]]];
    }

    stage.addEventListener("pointerdown", (event) => {
      // Controls that lie on the map keep their clicks.
      if (event.target.closest("button")) return;
      stage.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, place(event));
      handlers.hover(null);
      if (fingers.size === 2) {
        if (drag && drag.kind === "lasso") handlers.lasso(null, false);
        drag = { kind: "pinch", ...pinch() };
        return;
      }
      const kind = event.button === 1 ? "pan" : tool();
      drag = {
        kind,
        start: place(event),
        last: place(event),
        moved: false,
        rectangle: event.shiftKey,
        line: [place(event)],
      };
    });

    function dragged(at) {
      if (Math.hypot(at[0] - drag.start[0], at[1] - drag.start[1]) > STILL) drag.moved = true;
      if (!drag.moved) return;
      if (drag.kind === "pan") handlers.pan(at[0] - drag.last[0], at[1] - drag.last[1]);
      if (drag.kind === "explore") handlers.explore(at);
      if (drag.kind === "lasso") {
        if (drag.rectangle) drag.line = shape(drag.start, at);
        else if (Math.hypot(at[0] - drag.last[0], at[1] - drag.last[1]) < 2) return;
        else drag.line.push(at);
        handlers.lasso(drag.line, false);
      }
      drag.last = at;
    }

    stage.addEventListener("pointermove", (event) => {
      if (!fingers.has(event.pointerId)) {
        if (event.pointerType === "mouse") handlers.hover(event.target.closest("button") ? null : place(event));
        return;
      }
      fingers.set(event.pointerId, place(event));
      if (drag && drag.kind === "pinch" && fingers.size === 2) {
        const now = pinch();
        handlers.pan(now.middle[0] - drag.middle[0], now.middle[1] - drag.middle[1], true);
        handlers.zoom(now.spread / drag.spread, now.middle);
        drag = { kind: "pinch", ...now };
      } else if (drag && drag.kind !== "pinch") dragged(place(event));
    });

    function release(event) {
      if (!fingers.delete(event.pointerId) || !drag) return;
      if (drag.kind === "pinch") {
        // The finger that stays begins nothing new.
        if (fingers.size === 0) drag = null;
        return;
      }
      const done = drag;
      drag = null;
      if (event.type === "pointercancel") return done.kind === "lasso" ? handlers.lasso(null, false) : undefined;
      if (!done.moved) handlers.click(place(event));
      else if (done.kind === "lasso") handlers.lasso(done.line, true);
    }
    stage.addEventListener("pointerup", release);
    stage.addEventListener("pointercancel", release);
    stage.addEventListener("pointerleave", () => handlers.hover(null));

    stage.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        // Wheels that count lines or pages send smaller numbers than those that count pixels.
        const unit = [1, 30, 300][event.deltaMode];
        handlers.zoom(Math.exp(-Math.max(-300, Math.min(300, event.deltaY * unit)) * 0.0022), place(event));
      },
      { passive: false },
    );

    stage.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target !== stage) return;
      if (handlers.key(event.key, ARROWS[event.key] || null, event.shiftKey)) event.preventDefault();
    });
  };
})((window.lfm = window.lfm || {}));
