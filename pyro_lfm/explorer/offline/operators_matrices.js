// Products of matrices, by MatMul, Gemm and Einsum of ONNX. lfm.graph uses them.
(function (lfm) {
  "use strict";

  const { size, tensor, reshaped, strides, broadcastShape, expanded, transposed } = lfm.tensors;

  /** c (m, n) += a (m, k) Bᵀ for rows of B (n, k): each entry is a dot product of two lines of memory. */
  function addDotProducts(a, atA, b, atB, c, atC, m, n, k) {
    for (let j = 0; j < n; j++) {
      const row = atB + j * k;
      for (let i = 0; i < m; i++) {
        let p = atA + i * k, q = row, s0 = 0, s1 = 0, s2 = 0, s3 = 0;
        const end = p + (k & ~3);
        for (; p < end; p += 4, q += 4) {
          s0 += a[p] * b[q];
          s1 += a[p + 1] * b[q + 1];
          s2 += a[p + 2] * b[q + 2];
          s3 += a[p + 3] * b[q + 3];
        }
        for (const stop = atA + (i + 1) * k; p < stop; p++, q++) s0 += a[p] * b[q];
        c[atC + i * n + j] += s0 + s1 + (s2 + s3);
      }
    }
  }

  /** c (m, n) += a (m, k) b (k, n), one row of b at a time; rows whose factor is 0 are skipped. */
  function addProduct(a, atA, b, atB, c, atC, m, n, k) {
    const sums = new Float64Array(n);
    for (let i = 0; i < m; i++) {
      sums.fill(0);
      for (let p = 0; p < k; p++) {
        const factor = a[atA + i * k + p], row = atB + p * n;
        if (factor !== 0) for (let j = 0; j < n; j++) sums[j] += factor * b[row + j];
      }
      for (let j = 0; j < n; j++) c[atC + i * n + j] += sums[j];
    }
  }

  function matmul([a, b]) {
    const left = a.shape.length === 1 ? [1, ...a.shape] : a.shape;
    const right = b.shape.length === 1 ? [...b.shape, 1] : b.shape;
    const [m, k] = left.slice(-2), n = right[right.length - 1];
    if (right[right.length - 2] !== k) throw new Error(`matrices (${a.shape}) and (${b.shape}) do not fit`);
    const batch = broadcastShape(left.slice(0, -2), right.slice(0, -2)), count = size(batch);
    const x = expanded(reshaped(a, left), [...batch, m, k]).data, y = expanded(reshaped(b, right), [...batch, k, n]).data;
    const shape = [...batch, ...(a.shape.length === 1 ? [] : [m]), ...(b.shape.length === 1 ? [] : [n])];
    const result = tensor(a.type, shape);
    for (let s = 0; s < count; s++) addProduct(x, s * m * k, y, s * k * n, result.data, s * m * n, m, n, k);
    return result;
  }

  /** alpha · A B + beta · C, with A and B transposed where the attributes say so. */
  function gemm([a, b, c], { alpha = 1, beta = 1, transA, transB }) {
    const left = transA ? transposed(a, [1, 0]) : a, [m, k] = left.shape, n = transB ? b.shape[0] : b.shape[1];
    const sums = new Float64Array(m * n);
    (transB ? addDotProducts : addProduct)(left.data, 0, b.data, 0, sums, 0, m, n, k);
    const result = tensor(a.type, [m, n]), added = c ? expanded(c, [m, n]).data : null;
    for (let i = 0; i < sums.length; i++) result.data[i] = alpha * sums[i] + (added ? beta * added[i] : 0);
    return result;
  }

  /** The dimensions of an equation of Einsum, one list of letters a tensor; "..." is not served. */
  function lettersOf(equation, inputs) {
    const [left, right] = equation.replaceAll(" ", "").split("->"), terms = left.split(",").map((term) => [...term]);
    const once = [...new Set(terms.flat())].filter((l) => terms.flat().indexOf(l) === terms.flat().lastIndexOf(l));
    const sizes = {};
    terms.forEach((term, t) => term.forEach((letter, d) => { sizes[letter] = inputs[t].shape[d]; }));
    return { terms, kept: right === undefined ? once.sort() : [...right], sizes };
  }

  function einsum(inputs, { equation }) {
    const { terms, kept, sizes } = lettersOf(equation, inputs);
    const letters = [...kept, ...Object.keys(sizes).filter((letter) => !kept.includes(letter))];
    const steps = terms.map((term, t) => {
      const own = strides(inputs[t].shape);
      return letters.map((letter) => term.reduce((sum, l, d) => (l === letter ? sum + own[d] : sum), 0));
    });
    const result = tensor(inputs[0].type, kept.map((letter) => sizes[letter]));
    const inner = size(letters.slice(kept.length).map((letter) => sizes[letter])), lengths = letters.map((l) => sizes[l]);
    for (let out = 0; out < result.data.length; out++) {
      let sum = 0;
      for (let k = 0; k < inner; k++) sum += productAt(inputs, steps, lengths, out * inner + k);
      result.data[out] = sum;
    }
    return result;
  }

  function productAt(inputs, steps, lengths, place) {
    const at = steps.map(() => 0);
    for (let d = lengths.length - 1, rest = place; d >= 0; d--) {
      const index = rest % lengths[d];
      rest = Math.floor(rest / lengths[d]);
      for (let t = 0; t < at.length; t++) at[t] += index * steps[t][d];
    }
    return inputs.reduce((product, x, t) => product * x.data[at[t]], 1);
  }

  lfm.addProduct = addProduct;
  lfm.matrixOperators = { MatMul: matmul, Gemm: gemm, Einsum: einsum };
})((globalThis.lfm = globalThis.lfm || {}));
