// Pictures of a model on canvases: one pixel of the canvas for one pixel of the model, scaled by the style sheet.
(function (lfm) {
  "use strict";

  function sized(canvas, view) {
    const [, height, width] = view.shape;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    return canvas.getContext("2d", { willReadFrequently: true });
  }

  // The mean picture. Values are in the user's units; they reach the screen as low..high -> 0..255. Ink is dark on paper.
  function paint(canvas, view, values) {
    const [count, height, width] = view.shape;
    const context = sized(canvas, view);
    const image = context.createImageData(width, height);
    const size = height * width;
    const scale = 255 / (view.high - view.low);
    for (let pixel = 0; pixel < size; pixel++) {
      for (let channel = 0; channel < 3; channel++) {
        const value = values[(count === 1 ? 0 : channel * size) + pixel];
        const level = (value - view.low) * scale;
        // The array rounds and clamps. A pixel that the row lacks is grey.
        image.data[4 * pixel + channel] = value === null ? 128 : view.dark ? 255 - level : level;
      }
      image.data[4 * pixel + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  }

  // The standard deviation of each pixel (its mean over the channels) in viridis. Returns the value of the last colour,
  // and the one value of all pixels where they hardly differ.
  function paintDeviation(canvas, view, deviation) {
    const [count, height, width] = view.shape;
    const context = sized(canvas, view);
    const image = context.createImageData(width, height);
    const size = height * width;
    const mean = new Float64Array(size);
    for (let entry = 0; entry < deviation.length; entry++) mean[entry % size] += deviation[entry] / count;
    const [least, most] = [mean.reduce((a, b) => Math.min(a, b)), mean.reduce((a, b) => Math.max(a, b))];
    const top = lfm.ceiling(most);
    for (let pixel = 0; pixel < size; pixel++) {
      image.data.set(lfm.palette.viridis(mean[pixel] / top), 4 * pixel);
      image.data[4 * pixel + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    return { top, everywhere: most - least < 0.06 * most ? most : null };
  }

  // A canvas for a view, with words for those who do not see it.
  function canvas(view, label) {
    const node = lfm.element("canvas", { class: "picture", role: "img", "aria-label": label });
    sized(node, view);
    node.style.aspectRatio = `${view.shape[2]} / ${view.shape[1]}`;
    return node;
  }

  // A PNG of at least 256 pixels, each pixel of the model a square.
  function save(source, name) {
    const times = Math.max(1, Math.ceil(256 / Math.max(source.width, source.height)));
    const large = lfm.element("canvas", { width: source.width * times, height: source.height * times });
    const context = large.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(source, 0, 0, large.width, large.height);
    large.toBlob((blob) => lfm.download(blob, name), "image/png");
  }

  lfm.pictures = { paint, paintDeviation, canvas, save };
})((window.lfm = window.lfm || {}));
