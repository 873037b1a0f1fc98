// lfm.arrays: the arrays of an exported page, which stand one after the other in one compressed block of bytes.
//
// A reference is {type, shape, at} with the offset in the block, or {type, shape, values} for few numbers. Quantised arrays
// ("uint8" or "uint16" with {low, step} for each column, and the largest code for missing) are read by numbers().
(function (lfm) {
  "use strict";

  const STORED = {
    float32: Float32Array, float64: Float64Array, int: Float64Array, bool: Uint8Array, uint8: Uint8Array, uint16: Uint16Array,
    uint32: Uint32Array,
  };

  /** The bytes of a text in base64. */
  function bytesOf(base64) {
    const text = atob(base64), bytes = new Uint8Array(text.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
    return bytes;
  }

  /** The block of a page: base64 of gzip, decompressed by the browser. */
  async function unpacked(base64) {
    const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }

  function arrays(block) {
    const stored = (reference) => {
      const kind = STORED[reference.type];
      if (reference.values) return kind.from(reference.values, Number);
      return new kind(block, reference.at, lfm.tensors.size(reference.shape));
    };

    /** Numbers as Float32Array, with NaN for missing ones. */
    function numbers(reference) {
      const codes = stored(reference);
      if (!reference.step) return Float32Array.from(codes);
      const columns = reference.step.length, missing = reference.type === "uint8" ? 255 : 65535;
      const values = new Float32Array(codes.length);
      for (let i = 0; i < codes.length; i++) {
        const column = i % columns;
        values[i] = codes[i] === missing ? NaN : reference.low[column] + codes[i] * reference.step[column];
      }
      return values;
    }

    const text = (reference) => new TextDecoder().decode(stored(reference));
    const tensor = (reference) => lfm.tensors.tensor(reference.type, reference.shape, stored(reference));
    return { stored, numbers, text, tensor };
  }

  lfm.arrays = arrays;
  lfm.arrays.unpacked = unpacked;
})((globalThis.lfm = globalThis.lfm || {}));
