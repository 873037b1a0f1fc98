// Writes numbers as text: aligned in columns, with a true minus sign, as many digits as their range calls for.
(function (lfm) {
  "use strict";

  const minus = (text) => text.replace("-", "\u2212");

  // A function that writes every number of a range with the same decimals.
  lfm.formatter = function (low, high) {
    const range = Math.abs(high - low) || Math.abs(high) || 1;
    const size = Math.max(Math.abs(low), Math.abs(high));
    if (!isFinite(range) || size >= 1e6 || range < 1e-5) {
      return (value) => (isFinite(value) && value !== null ? minus(value.toPrecision(3)) : "\u2013");
    }
    const decimals = Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(1.05 * range))));
    return function (value) {
      if (value === null || value === undefined || !isFinite(value)) return "\u2013";
      const text = value.toFixed(decimals);
      return minus(Number(text) === 0 ? text.replace("-", "") : text);
    };
  };

  // A number alone, with three digits that count; whole numbers in full.
  lfm.number = function (value) {
    if (value === null || value === undefined || !isFinite(value)) return "\u2013";
    if (Number.isInteger(value) && Math.abs(value) < 1e9) return minus(String(value));
    const size = Math.abs(value);
    if (size >= 1e6 || size < 1e-3) return minus(value.toExponential(1));
    return minus(String(Number(value.toPrecision(3))));
  };

  lfm.percent = function (share) {
    if (share === null || share === undefined || !isFinite(share)) return "";
    const percent = 100 * share;
    if (Math.abs(percent) < 0.05) return percent > 0 ? "<0.1%" : "0%";
    return minus(`${Math.abs(percent) < 9.95 ? percent.toFixed(1) : percent.toFixed(0)}%`);
  };

  lfm.plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

  // The smallest of 1, 2 and 5 times a power of ten that is at least as large: a scale that rarely changes.
  lfm.ceiling = function (value) {
    if (!(value > 0)) return 1;
    const power = Math.pow(10, Math.floor(Math.log10(value)));
    return power * [1, 2, 5, 10].find((step) => step * power >= value * (1 - 1e-9));
  };

  // Round places on an axis between two values, about `count` of them.
  lfm.ticks = function (low, high, count) {
    const step = lfm.ceiling((high - low) / count);
    const ticks = [];
    for (let tick = Math.ceil(low / step); tick * step <= high; tick++) ticks.push(tick * step);
    return { step, ticks };
  };
})((window.lfm = window.lfm || {}));
