// lfm.arrays: the arrays of an exported page, which stand one after the other in one compressed block of bytes.
//
// A reference is {type, shape, at} with the offset in the block, or {type, shape, values} for few numbers. Codes of numbers
// have {low, step} by column beside them, for low + code * step, or {levels}; and the code that stands for missing.
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

  /** The numbers of codes. */
  function decoded(codes, { levels, low, step, missing }) {
    const values = new Float32Array(codes.length), columns = levels ? 1 : step.length;
    const number = levels ? (code) => levels[code] : (code, column) => low[column] + code * step[column];
    for (let i = 0; i < codes.length; i++) values[i] = codes[i] === missing ? NaN : number(codes[i], i % columns);
    return values;
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
      return reference.step || reference.levels ? decoded(codes, reference) : Float32Array.from(codes);
    }

    /** One line of a table of numbers. */
    function line(reference, place) {
      const width = lfm.tensors.size(reference.shape.slice(1));
      const codes = stored(reference).subarray(place * width, (place + 1) * width);
      return reference.step || reference.levels ? decoded(codes, reference) : Float64Array.from(codes);
    }

    const text = (reference) => new TextDecoder().decode(stored(reference));
    const tensor = (reference) => lfm.tensors.tensor(reference.type, reference.shape, stored(reference));
    return { stored, numbers, line, text, tensor };
  }

  lfm.arrays = arrays;
  lfm.arrays.unpacked = unpacked;
})((globalThis.lfm = globalThis.lfm || {}));
