// Draws the map: points on one canvas, what lies over them on another, at most once a frame.
(function (lfm) {
  "use strict";

  class MapView {
    // `stage` holds the canvases. Places on the screen are in CSS pixels from its corner, where the pointer is.
    constructor(app, stage) {
      const canvas = (name) => stage.appendChild(lfm.element("canvas", { class: name }));
      Object.assign(this, { app, stage, base: canvas("map-points"), over: canvas("map-overlay") });
      this.context = this.base.getContext("2d", { willReadFrequently: true });
      [this.x, this.y, this.depth] = [0, 1, 2].map(() => new Float32Array(app.info.rows));
      this.order = lfm.points.shuffled(app.info.rows);
      Object.assign(this, { projection: null, key: "", camera: null, image: null, colouring: null });
      // What pointer and selection add: flags of rows, {row, encoded}, the line of a lasso.
      Object.assign(this, { selected: null, hovered: null, line: null });
      this.frame = 0;
      this.pointsDue = true;
      new ResizeObserver(() => this.resize()).observe(stage);
    }

    resize() {
      this.ratio = Math.min(2, window.devicePixelRatio || 1);
      const [width, height] = [this.stage.clientWidth, this.stage.clientHeight].map((size) =>
        Math.max(1, Math.round(size * this.ratio)),
      );
      if (!this.image || this.base.width !== width || this.base.height !== height) {
        for (const canvas of [this.base, this.over]) Object.assign(canvas, { width, height });
        this.image = this.context.createImageData(width, height);
      }
      this.redraw(true);
    }

    // Without `points`, only what lies over them has changed.
    redraw(points) {
      this.pointsDue = this.pointsDue || points;
      this.frame = this.frame || requestAnimationFrame(() => this.paint());
    }

    // Where the points lie under the present state. Answers at once, even between two frames.
    aim() {
      const { map } = this.app.store.state;
      const key = JSON.stringify([map.kind, map.dimensions, map.axes]);
      if (key !== this.key)
        Object.assign(this, { key, projection: lfm.projection(this.app.info, this.app.points, map) });
      this.camera = lfm.camera(this.projection, map, this.stage.clientWidth, this.stage.clientHeight);
      return this.camera;
    }

    paint() {
      this.frame = 0;
      if (!this.image || !this.colouring) return;
      this.aim();
      if (this.pointsDue) this.paintPoints();
      this.pointsDue = false;
      this.paintOverlay();
      // For timings: when all points were there for the first time.
      if (!this.app.drawn++) performance.mark("lfm-points");
    }

    paintPoints() {
      const { info, store } = this.app;
      this.camera.projectAll(this.projection.coordinates, this.x, this.y, this.depth);
      // The image has more pixels than the style sheet on fine screens.
      const [x, y] = [this.x, this.y].map((values) =>
        this.ratio === 1 ? values : values.map((value) => value * this.ratio),
      );
      const shapes = this.colouring.markers.some(({ shape }) => shape !== "disc");
      lfm.points.draw(this.image, {
        x,
        y,
        depth: this.projection.dimensions === 3 ? this.depth : null,
        order: this.order,
        codes: this.colouring.codes,
        markers: this.colouring.markers,
        selected: this.selected,
        radius: lfm.points.radius(info.rows, store.state.map.zoom, this.ratio) * (shapes ? 1.15 : 1),
        opacity: info.rows > 20000 ? 0.6 : info.rows > 3000 ? 0.75 : 0.9,
        paper: this.palette.plot,
      });
      this.context.putImageData(this.image, 0, 0);
    }

    paintOverlay() {
      const { info, store } = this.app;
      const { state } = store;
      const colours = Object.fromEntries(
        Object.entries(this.palette).map(([name, rgb]) => [name, lfm.palette.css(rgb)]),
      );
      lfm.drawOverlay(this.over, this.ratio, {
        camera: this.camera,
        projection: this.projection,
        colours,
        level: info.levels,
        present: state.z,
        subject: state.subject && state.subject.encoded,
        ends: state,
        line: this.line,
        hovered: this.hovered && { place: this.place(this.hovered.row), encoded: this.hovered.encoded },
      });
    }

    recolour(colour, values) {
      this.palette = lfm.theme.colours();
      this.colouring = lfm.colouring(values, colour, this.app.info.rows);
      this.redraw(true);
    }

    select(rows) {
      this.selected = rows && new Uint8Array(this.app.info.rows);
      if (rows) for (const row of rows) this.selected[row] = 1;
      this.redraw(true);
    }

    place(row) {
      return [this.x[row], this.y[row]];
    }

    // The place of the present point.
    present() {
      return this.aim().toScreen(this.projection.forward(this.app.store.state.z));
    }

    // The latent point under a place: what the axes do not show stays as it is.
    latent(place) {
      const { z } = this.app.store.state;
      return this.projection.inverse(this.aim().fromScreen(place, this.projection.forward(z)), z);
    }
  }

  lfm.MapView = MapView;
})((window.lfm = window.lfm || {}));
