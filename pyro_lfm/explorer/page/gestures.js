// Pointer, wheel and keys on the map, as calls of a few handlers. One pointer acts by the tool; two fingers pinch.
(function (lfm) {
  "use strict";

  const STILL = 4;
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
  const rectangle = (from, to) => [from, [to[0], from[1]], to, [from[0], to[1]]];

  class Gestures {
    // handlers: hover(place or null), click(place), explore(place), pan(dx, dy, flat), zoom(factor, place),
    // lasso(line or null, done), key(name, arrow or null, shift). Places are in CSS pixels from the stage's corner.
    constructor(stage, tool, handlers) {
      Object.assign(this, { stage, tool, handlers, fingers: new Map(), drag: null });
      const listen = (name, act, options) => stage.addEventListener(name, (event) => act.call(this, event), options);
      listen("pointerdown", this.press);
      listen("pointermove", this.move);
      listen("pointerup", this.release);
      listen("pointercancel", this.release);
      listen("pointerleave", () => handlers.hover(null));
      listen("wheel", this.wheel, { passive: false });
      listen("keydown", this.key);
    }

    place(event) {
      const box = this.stage.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    }

    pinch() {
      const [a, b] = [...this.fingers.values()];
      return { kind: "pinch", middle: [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2], spread: distance(a, b) || 1 };
    }

    press(event) {
      // Controls that lie on the map keep their clicks.
      if (event.target.closest("button")) return;
      const at = this.place(event);
      this.stage.setPointerCapture(event.pointerId);
      this.fingers.set(event.pointerId, at);
      this.handlers.hover(null);
      if (this.fingers.size === 2) {
        if (this.drag && this.drag.kind === "lasso") this.handlers.lasso(null, false);
        this.drag = this.pinch();
        return;
      }
      // The middle button moves the map whatever the tool.
      const kind = event.button === 1 ? "pan" : this.tool();
      this.drag = { kind, start: at, last: at, moved: false, rectangle: event.shiftKey, line: [at] };
    }

    move(event) {
      const { handlers, fingers, drag } = this;
      const at = this.place(event);
      if (!fingers.has(event.pointerId)) {
        if (event.pointerType === "mouse") handlers.hover(event.target.closest("button") ? null : at);
        return;
      }
      fingers.set(event.pointerId, at);
      if (drag && drag.kind === "pinch" && fingers.size === 2) {
        const now = this.pinch();
        handlers.pan(now.middle[0] - drag.middle[0], now.middle[1] - drag.middle[1], true);
        handlers.zoom(now.spread / drag.spread, now.middle);
        this.drag = now;
      } else if (drag && drag.kind !== "pinch") this.pull(drag, at);
    }

    // One pointer is dragged.
    pull(drag, at) {
      drag.moved = drag.moved || distance(at, drag.start) > STILL;
      if (!drag.moved) return;
      if (drag.kind === "pan") this.handlers.pan(at[0] - drag.last[0], at[1] - drag.last[1]);
      if (drag.kind === "explore") this.handlers.explore(at);
      if (drag.kind === "lasso") {
        if (drag.rectangle) drag.line = rectangle(drag.start, at);
        else if (distance(at, drag.last) < 2) return;
        else drag.line.push(at);
        this.handlers.lasso(drag.line, false);
      }
      drag.last = at;
    }

    release(event) {
      const { drag, handlers } = this;
      if (!this.fingers.delete(event.pointerId) || !drag) return;
      if (drag.kind === "pinch") {
        // The finger that stays begins nothing new.
        if (this.fingers.size === 0) this.drag = null;
        return;
      }
      this.drag = null;
      const lasso = drag.kind === "lasso";
      if (event.type === "pointercancel") {
        if (lasso) handlers.lasso(null, false);
      } else if (!drag.moved) handlers.click(this.place(event));
      else if (lasso) handlers.lasso(drag.line, true);
    }

    wheel(event) {
      event.preventDefault();
      // Wheels that count lines or pages send smaller numbers than those that count pixels.
      const pixels = event.deltaY * [1, 30, 300][event.deltaMode];
      this.handlers.zoom(Math.exp(-Math.max(-300, Math.min(300, pixels)) * 0.0022), this.place(event));
    }

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target !== this.stage) return;
      if (this.handlers.key(event.key, ARROWS[event.key] || null, event.shiftKey)) event.preventDefault();
    }
  }

  lfm.Gestures = Gestures;
})((window.lfm = window.lfm || {}));
