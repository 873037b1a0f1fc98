// Operators of ONNX that compute each entry by itself. lfm.graph uses them.
(function (lfm) {
  "use strict";

  const { ARRAYS, tensor, broadcastShape, expanded } = lfm.tensors;

  const unary = (compute, type) => ([x], attributes) => {
    const result = tensor(type || x.type, x.shape), source = x.data, target = result.data;
    for (let i = 0; i < target.length; i++) target[i] = compute(source[i], attributes);
    return result;
  };

  const binary = (compute, type) => ([a, b], attributes) => {
    const shape = broadcastShape(a.shape, b.shape);
    const left = expanded(a, shape).data, right = expanded(b, shape).data;
    const result = tensor(type || a.type, shape), target = result.data;
    for (let i = 0; i < target.length; i++) target[i] = compute(left[i], right[i], attributes);
    return result;
  };

  /** An operator of any number of inputs, two at a time. */
  const chained = (compute) => {
    const pair = binary(compute);
    return (inputs) => inputs.reduce((sum, next) => pair([sum, next]));
  };

  const larger = (a, b) => (a !== a || b !== b ? NaN : a > b ? a : b);
  const smaller = (a, b) => (a !== a || b !== b ? NaN : a < b ? a : b);

  const sigmoid = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));
  const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
  const option = (value, otherwise) => (value === undefined ? otherwise : value);

  /** The error function by its series in exp(-x²), whose terms are all of one sign: Abramowitz and Stegun 7.1.6. */
  function erf(x) {
    if (x !== x) return x;
    if (Math.abs(x) > 6) return Math.sign(x);
    let term = x, sum = x;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
      term *= (2 * x * x) / (2 * n + 1);
      sum += term;
    }
    return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
  }

  function gelu(x, { approximate }) {
    if (approximate === "tanh") {
      return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)));
    }
    return 0.5 * x * (1 + erf(x / Math.SQRT2));
  }

  function roundedToEven(x) {
    const below = Math.floor(x), rest = x - below;
    return rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1;
  }

  function divide(inputs) {
    return inputs[0].type === "int" ? wholeQuotient(inputs) : quotient(inputs);
  }
  const quotient = binary((a, b) => a / b), wholeQuotient = binary((a, b) => Math.trunc(a / b));

  const elu = (x, alpha) => (x >= 0 ? x : alpha * Math.expm1(x));

  const remainder = binary((a, b, { fmod }) => {
    const rest = a % b;
    return fmod || rest === 0 || rest < 0 === b < 0 ? rest : rest + b;
  });

  function clip([x, low, high], attributes) {
    const least = low ? low.data[0] : option(attributes.min, -Infinity);
    const most = high ? high.data[0] : option(attributes.max, Infinity);
    return unary((v) => (v < least ? least : v > most ? most : v))([x]);
  }

  function cast([x], { to }) {
    if (x.type === to) return x;
    if (to === "bool") return unary((v) => (v !== 0 ? 1 : 0), to)([x]);
    if (to === "int") return unary(Math.trunc, to)([x]);
    return tensor(to, x.shape, ARRAYS[to].from(x.data));
  }

  function where([condition, a, b]) {
    const shape = broadcastShape(condition.shape, a.shape, b.shape), result = tensor(a.type, shape);
    const [chosen, left, right] = [condition, a, b].map((x) => expanded(x, shape).data);
    for (let i = 0; i < result.data.length; i++) result.data[i] = chosen[i] ? left[i] : right[i];
    return result;
  }

  const mathematics = Object.fromEntries(
    "Abs Exp Log Sqrt Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Tanh Ceil Floor Sign"
      .split(" ").map((name) => [name, unary(Math[name.toLowerCase()])]));

  const activations = {
    Relu: unary((x) => (x < 0 ? 0 : x)),
    Sigmoid: unary(sigmoid),
    Softplus: unary(softplus),
    Softsign: unary((x) => x / (1 + Math.abs(x))),
    Gelu: unary(gelu),
    Mish: unary((x) => x * Math.tanh(softplus(x))),
    Elu: unary((x, { alpha }) => elu(x, option(alpha, 1))),
    Celu: unary((x, { alpha }) => Math.max(0, x) + Math.min(0, option(alpha, 1) * Math.expm1(x / option(alpha, 1)))),
    Selu: unary((x, { alpha, gamma }) =>
      option(gamma, 1.0507009873554805) * elu(x, option(alpha, 1.6732632423543772))),
    LeakyRelu: unary((x, { alpha }) => (x < 0 ? option(alpha, 0.01) * x : x)),
    PRelu: binary((x, slope) => (x < 0 ? slope * x : x)),
    ThresholdedRelu: unary((x, { alpha }) => (x > option(alpha, 1) ? x : 0)),
    Shrink: unary((x, { lambd = 0.5, bias = 0 }) => (x < -lambd ? x + bias : x > lambd ? x - bias : 0)),
    HardSigmoid: unary((x, { alpha, beta }) =>
      Math.min(1, Math.max(0, option(alpha, 0.2) * x + option(beta, 0.5)))),
    HardSwish: unary((x) => x * Math.min(1, Math.max(0, x / 6 + 0.5))),
  };

  lfm.erf = erf;
  lfm.elementwiseOperators = {
    ...mathematics,
    ...activations,
    Add: binary((a, b) => a + b),
    Sub: binary((a, b) => a - b),
    Mul: binary((a, b) => a * b),
    Div: divide,
    Mod: remainder,
    Pow: binary((a, b) => (a === 1 ? 1 : a ** b)),
    Max: chained(larger),
    Min: chained(smaller),
    Sum: chained((a, b) => a + b),
    Mean: (inputs) => unary((x) => x / inputs.length)([chained((a, b) => a + b)(inputs)]),
    Neg: unary((x) => -x),
    Reciprocal: unary((x) => 1 / x),
    Round: unary(roundedToEven),
    Erf: unary(erf),
    Clip: clip,
    Cast: cast,
    CastLike: ([x, like]) => cast([x], { to: like.type }),
    Identity: ([x]) => x,
    Dropout: ([x]) => x,
    Where: where,
    Not: unary((x) => (x ? 0 : 1), "bool"),
    IsNaN: unary((x) => (x !== x ? 1 : 0), "bool"),
    IsInf: unary((x, { detect_negative = 1, detect_positive = 1 }) =>
      (x === Infinity && detect_positive) || (x === -Infinity && detect_negative) ? 1 : 0, "bool"),
    And: binary((a, b) => a && b, "bool"),
    Or: binary((a, b) => a || b, "bool"),
    Xor: binary((a, b) => a ^ b, "bool"),
    Equal: binary((a, b) => (a === b ? 1 : 0), "bool"),
    Less: binary((a, b) => (a < b ? 1 : 0), "bool"),
    LessOrEqual: binary((a, b) => (a <= b ? 1 : 0), "bool"),
    Greater: binary((a, b) => (a > b ? 1 : 0), "bool"),
    GreaterOrEqual: binary((a, b) => (a >= b ? 1 : 0), "bool"),
  };
})((globalThis.lfm = globalThis.lfm || {}));
