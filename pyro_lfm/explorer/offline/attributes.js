// lfm.exportedAttributes: reads attributes from points, moves points to attributes that are asked for, and generates points
// with them. The mathematics is that of pyro_lfm/attributes, with derivatives by differences and draws that the page holds.
(function (lfm) {
  "use strict";

  // As in moved_codes.py and known_rows.py; the step of a difference; how many draws are to carry weight for each wanted one.
  const STEPS = 30, FIRST = 3, NEAR = 0.1, DIFFERENCE = 1e-4, EACH = 4, FEW = 3, MOST = 0.9;
  // As in moved_codes.py, and in returned_codes.py.
  const LINE = 3, OFF = 0.1, RETURNS = 0.5, ROUNDS = 2;

  const { sum, uniform, resampled, temperature } = lfm.weightedDraws, { readersOf, requestOf, likeliest } = lfm.attributeReaders;

  /** x of A x = b for a positive definite A, by elimination. */
  function solved(matrix, target) {
    const rows = matrix.map((row, k) => [...row, target[k]]), n = rows.length;
    for (let k = 0; k < n; k++) {
      for (let i = k + 1; i < n; i++) {
        const factor = rows[i][k] / rows[k][k];
        for (let j = k; j <= n; j++) rows[i][j] -= factor * rows[k][j];
      }
    }
    const x = new Array(n).fill(0);
    for (let k = n - 1; k >= 0; k--) x[k] = (rows[k][n] - sum(x.map((value, j) => (j > k ? rows[k][j] * value : 0)))) / rows[k][k];
    return x;
  }

  lfm.exportedAttributes = function (document, info, arrays) {
    const readers = readersOf(document, arrays), { attributes, tolerances, least, typical } = document;
    const pool = arrays.numbers(document.pool), poolOutputs = arrays.stored(document.pool_outputs);
    const size = document.pool.shape[1], draws = document.pool.shape[0], each = attributes.length * readers.width;

    /** How far a reading is from its place, in tolerances; labels may be read as surely as they like. */
    const residuals = (terms, outputs) => terms.map(({ a, code, place, weight = 1 }) => {
      const residual = (weight * (readers.number(outputs, a, code) - place)) / tolerances[a];
      return attributes[a].labels.length && residual > 0 ? 0 : residual;
    });

    /** Readings that are to stay as they are. */
    const heldOf = (outputs, asked) => attributes.flatMap(({ labels }, a) => {
      if (asked.some((term) => term.a === a)) return [];
      const code = labels.length ? likeliest(readers.logits(outputs, a)) : 0, now = readers.number(outputs, a, code);
      return [{ a, code, held: true, place: labels.length ? Math.min(now, typical[a][code] ?? Infinity) : now }];
    });

    /**
     * ½|v − u|² + Σ ρ(residual) + ¹⁄₁₀ max(0, ln p(u) − ln p(v)) of each v, with gradient and curvature without second
     * derivatives; all are evaluated at once. A move is {start: u, codes: v, terms, floor: ln p(u)}.
     */
    function costs(moves) {
      const codes = moves.flatMap((move) =>
        [move.codes, ...move.codes.map((_, k) => move.codes.map((value, j) => (j === k ? value + DIFFERENCE : value)))]);
      const all = readers.at(codes);
      return moves.map((move, m) => costOf(move, all.slice(m * (size + 1), (m + 1) * (size + 1))));
    }

    function costOf({ start, codes, terms, floor }, [here, ...others]) {
      const now = residuals(terms, here.outputs), below = OFF * Math.max(0, floor - here.density);
      // Huber's function of what is held, a square that goes on as a line.
      const pull = now.map((r, j) => (terms[j].held ? Math.max(-LINE, Math.min(LINE, r)) : r));
      const weight = now.map((r, j) => (terms[j].held ? LINE / Math.max(LINE, Math.abs(r)) : 1));
      const moved = codes.map((value, k) => value - start[k]);
      const slopes = others.map(({ outputs }) => residuals(terms, outputs).map((value, j) => (value - now[j]) / DIFFERENCE));
      const gradient = moved.map((value, k) =>
        value + sum(slopes[k].map((slope, j) => slope * pull[j])) - (below ? (OFF * (others[k].density - here.density)) / DIFFERENCE : 0));
      const curvature = codes.map((_, i) => codes.map((_, k) => (i === k ? 1 : 0) + sum(slopes[i].map((s, j) => s * weight[j] * slopes[k][j]))));
      return { cost: 0.5 * sum(moved.map((m) => m * m)) + sum(now.map((r, j) => pull[j] * (r - 0.5 * pull[j]))) + below, gradient, curvature };
    }

    /** Codes moved as little as possible to where the terms of each are met; Levenberg and Marquardt's method. */
    function movedCodes(starts, terms) {
      const moves = readers.at(starts).map(({ density: floor }, k) =>
        ({ start: starts[k], codes: starts[k], terms: terms[k], floor, damping: 1, done: false }));
      costs(moves).forEach((state, k) => Object.assign(moves[k], state));
      for (let step = 0; step < STEPS; step++) {
        const open = moves.filter(({ done }) => !done);
        if (!open.length) break;
        const tried = open.map((move) => {
          const damped = move.curvature.map((row, i) => row.map((value, j) => (i === j ? value + move.damping : value)));
          const change = solved(damped, move.gradient);
          return { ...move, codes: move.codes.map((value, i) => value - change[i]) };
        });
        costs(tried).forEach((state, k) => {
          const move = open[k], gain = move.cost - state.cost;
          if (gain > 0) Object.assign(move, state, { codes: tried[k].codes });
          move.damping = Math.min(1e8, Math.max(1e-6, gain > 0 ? move.damping / 4 : move.damping * 4));
          move.done = (gain > 0 && gain < 1e-4) || move.damping >= 1e8;
        });
      }
      return moves.map(({ codes }) => codes);
    }

    /** What is asked comes before what is held. */
    const first = (request) => request.map((term) => ({ ...term, weight: FIRST }));

    const read = (outputs) => Object.fromEntries(attributes.map(({ name }, a) => [name, readers.value(outputs, a)]));

    /** Whether the readings are near what is asked: labels the likeliest, numbers within a tenth of their range. */
    const isNear = (request, outputs) => request.every(({ a, code }) => {
      const { labels, low, high } = attributes[a];
      if (labels.length) return likeliest(readers.logits(outputs, a)) === code;
      return Math.abs(readers.value(outputs, a) - code) <= NEAR * (high - low);
    });

    const outputsOf = (draw) => poolOutputs.subarray(draw * each, (draw + 1) * each);

    function wordsOn(request, points) {
      const asked = request.map(({ a, code }) => {
        const { name, labels } = attributes[a];
        return `${name} = ${labels.length ? labels[code] : Number(code.toPrecision(4))}`;
      }).join(", ");
      let near = 0;
      for (let draw = 0; draw < draws; draw++) near += isNear(request, outputsOf(draw));
      const share = near / draws, met = points.filter(({ outputs }) => isNear(request, outputs)).length / points.length, words = [];
      if (share * info.rows < FEW) {
        words.push(`${Number((100 * share).toPrecision(2))}% of the latent density is near ${asked}: rows with these attributes go beyond the data`);
      }
      if (met < MOST) words.push(`only ${Math.round(100 * met)}% of the rows are read as ${asked}, numbers to 10% of their range`);
      return words.join("; ") || null;
    }

    /** Points with the attributes that are asked for: draws that are near them, moved there. */
    function generate(targets, n, seed) {
      const request = requestOf(document, targets, least), random = uniform(seed);
      const energies = Array.from({ length: draws }, (_, draw) => 0.5 * sum(residuals(request, outputsOf(draw)).map((r) => r * r)));
      const beta = temperature(energies, Math.min(EACH * n, draws / 2));
      const places = resampled(energies.map((energy) => -beta * energy), n, random);
      const starts = places.map((draw) => Array.from(pool.subarray(draw * size, (draw + 1) * size)));
      const codes = movedCodes(starts, starts.map(() => first(request)));
      const points = readers.at(codes);
      return { points: points.map(({ point }) => point), message: wordsOn(request, points) };
    }

    /**
     * A point moved to what is asked for.
     *
     * `back` sends a point through decoder and encoder, where the page has both. A point that comes back to where it was
     * shows that they are inverse: then the moved one passes them too, and is moved again from where it comes out.
     */
    function edit(z, targets, back) {
      const request = requestOf(document, targets, typical), start = readers.codesOf(z), before = readers.at([start])[0];
      const terms = [[...first(request), ...heldOf(before.outputs, request)]];
      let codes = movedCodes([start], terms);
      const shift = back ? readers.codesOf(back(z)).map((value, k) => value - start[k]) : null;
      if (shift && Math.sqrt(sum(shift.map((value) => value * value))) < RETURNS) {
        for (let round = 0; round < ROUNDS; round++) {
          const returned = readers.codesOf(back(readers.at(codes)[0].point));
          codes = movedCodes([returned.map((value, k) => value - shift[k])], terms);
        }
      }
      const [after] = readers.at(codes);
      return { z: after.point, before: read(before.outputs), after: read(after.outputs) };
    }

    return { read: (z) => read(readers.at([readers.codesOf(z)])[0].outputs), generate, edit };
  };
})((globalThis.lfm = globalThis.lfm || {}));
