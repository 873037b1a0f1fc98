// Sets of rows as short text, for the address of the page: runs of rows, or one bit a row where that is shorter.
(function (lfm) {
  "use strict";

  // "r" and pairs (gap, length) in base 36: r5.3.10.1 holds 5, 6, 7 and 18 (gaps are counted from the end of a run).
  function runs(rows) {
    const parts = [];
    let end = 0;
    for (let place = 0; place < rows.length;) {
      let length = 1;
      while (place + length < rows.length && rows[place + length] === rows[place] + length) length++;
      parts.push((rows[place] - end).toString(36), length.toString(36));
      end = rows[place] + length;
      place += length;
    }
    return "r" + parts.join(".");
  }

  function bits(rows, total) {
    const bytes = new Uint8Array(Math.ceil(total / 8));
    for (const row of rows) bytes[row >> 3] |= 1 << (row & 7);
    let text = "";
    for (const byte of bytes) text += String.fromCharCode(byte);
    return "b" + btoa(text).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  }

  function write(rows, total) {
    const text = runs(rows);
    return text.length <= Math.ceil(total / 6) ? text : bits(rows, total);
  }

  // Rows in ascending order, or null for a text that is none of ours.
  function read(text, total) {
    const rows = [];
    if (/^r([0-9a-z]+\.[0-9a-z]+(\.|$))+$/.test(text)) {
      let end = 0;
      const parts = text
        .slice(1)
        .split(".")
        .map((part) => parseInt(part, 36));
      for (let place = 0; place + 1 < parts.length; place += 2) {
        const start = end + parts[place];
        end = start + parts[place + 1];
        if (end > total) return null;
        for (let row = start; row < end; row++) rows.push(row);
      }
    } else if (/^b[\w-]+$/.test(text)) {
      const bytes = atob(text.slice(1).replace(/-/g, "+").replace(/_/g, "/"));
      for (let row = 0; row < Math.min(total, 8 * bytes.length); row++) {
        if (bytes.charCodeAt(row >> 3) & (1 << (row & 7))) rows.push(row);
      }
    }
    return rows.length ? Uint32Array.from(rows) : null;
  }

  lfm.rowSets = { write, read };
})((window.lfm = window.lfm || {}));
