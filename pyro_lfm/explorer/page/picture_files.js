// Reads a picture file into the values of a view: scaled to its size, in its units.
(function (lfm) {
  "use strict";

  const LARGEST = 32e6;

  // Photographs fill the frame; a drawing of one channel keeps its margins.
  function place(bitmap, width, height, fill) {
    const scales = [width / bitmap.width, height / bitmap.height];
    const scale = fill ? Math.max(...scales) : Math.min(...scales);
    const [w, h] = [bitmap.width * scale, bitmap.height * scale];
    return [(width - w) / 2, (height - h) / 2, w, h];
  }

  // The mean of the pixels at the border, 0 to 255: what the picture is drawn on.
  function border(data, width, height) {
    let [sum, count] = [0, 0];
    for (let y = 0; y < height; y++) {
      const step = y === 0 || y === height - 1 ? 1 : Math.max(1, width - 1);
      for (let x = 0; x < width; x += step) {
        const p = 4 * (y * width + x);
        sum += data[p] + data[p + 1] + data[p + 2];
        count += 3;
      }
    }
    return sum / count;
  }

  function values(data, view) {
    const [count, height, width] = view.shape;
    const size = height * width;
    // Ink on paper in the file is ink in the model; a file with light ink on a dark ground is taken as it is.
    const inverted = view.dark && border(data, width, height) > 127;
    const result = new Array(count * size);
    for (let pixel = 0; pixel < size; pixel++) {
      const rgb = [0, 1, 2].map((channel) => data[4 * pixel + channel] / 255);
      const levels = count === 1 ? [0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]] : rgb;
      levels.forEach((level, channel) => {
        result[channel * size + pixel] = view.low + (inverted ? 1 - level : level) * (view.high - view.low);
      });
    }
    return result;
  }

  lfm.readPicture = async function (file, view) {
    const megabytes = (file.size / 1e6).toFixed(0);
    if (file.size > LARGEST) throw new Error(`${file.name} has ${megabytes} MB; pictures of up to 32 MB are read.`);
    let bitmap;
    try {
      bitmap = await createImageBitmap(file);
    } catch {
      throw new Error(`${file.name} is not a picture that this browser can read. Choose a PNG, JPEG or WebP file.`);
    }
    const [count, height, width] = view.shape;
    const canvas = lfm.element("canvas", { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, ...place(bitmap, width, height, count === 3));
    bitmap.close();
    return values(context.getImageData(0, 0, width, height).data, view);
  };
})((window.lfm = window.lfm || {}));
