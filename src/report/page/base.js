"use strict";
(function () {
  const D = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const NS = "http://www.w3.org/2000/svg";

  // Elements are built, never parsed: a name is text wherever it lands.
  function el(tag, text, attributes) {
    const e = document.createElement(tag);
    if (text !== undefined && text !== null) e.textContent = text;
    for (const k in attributes || {}) e.setAttribute(k, attributes[k]);
    return e;
  }
  function svg(tag, attributes, text) {
    const e = document.createElementNS(NS, tag);
    for (const k in attributes) e.setAttribute(k, attributes[k]);
    if (text !== undefined) e.textContent = text;
    return e;
  }
  function bytes(text) {
    const s = atob(text);
    const out = new Uint8Array(s.length);
    for (let i = 0; i < s.length; i++) out[i] = s.charCodeAt(i);
    return out.buffer;
  }
  const u32 = (t) => new Uint32Array(bytes(t));
  const i32 = (t) => new Int32Array(bytes(t));
  const u16 = (t) => new Uint16Array(bytes(t));
  const u8 = (t) => new Uint8Array(bytes(t));
  const f32 = (t) => new Float32Array(bytes(t));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  // The darkest blue is too dark on dark.
  const ink = (colour) => (colour === "ink" ? css("--ink") : colour === "#0072b2" && dark.matches ? "#2f8fd0" : colour);

  function brief(x) {
    if (!isFinite(x)) return "–";
    const a = Math.abs(x);
    if (a === 0) return "0";
    if (a < 1e-3 || a >= 1e6) return x.toExponential(1);
    if (a < 1) return x.toFixed(3);
    if (a < 10) return x.toFixed(2);
    if (a < 100) return x.toFixed(1);
    return Math.round(x).toLocaleString("en");
  }
  const whole = (x) => x.toLocaleString("en");
  const ramp = (t) => {
    const i = Math.round(Math.max(0, Math.min(1, t)) * (D.ramp.length - 1));
    return D.ramp[dark.matches ? D.ramp.length - 1 - i : i];
  };

  // Marks of cell types.
  const CORNERS = {
    triangle: [[0, -1.25], [1.15, 0.8], [-1.15, 0.8]], drop: [[0, 1.25], [1.15, -0.8], [-1.15, -0.8]],
    square: [[-0.92, -0.92], [0.92, -0.92], [0.92, 0.92], [-0.92, 0.92]],
    diamond: [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]],
    plus: [[-0.38, -1.3], [0.38, -1.3], [0.38, -0.38], [1.3, -0.38], [1.3, 0.38], [0.38, 0.38], [0.38, 1.3],
      [-0.38, 1.3], [-0.38, 0.38], [-1.3, 0.38], [-1.3, -0.38], [-0.38, -0.38]],
  };
  function mark(c, shape, x, y, r) {
    const corners = CORNERS[shape];
    c.beginPath();
    if (!corners) c.arc(x, y, r, 0, 7);
    else corners.forEach(([dx, dy], i) => (i ? c.lineTo(x + dx * r, y + dy * r) : c.moveTo(x + dx * r, y + dy * r)));
    c.fill();
  }

  // A table whose columns can be sorted: heads stay in place, so that the keyboard does. Columns: name, key, left, first down.
  function sortable(where, columns, state, changed) {
    const t = el("table", null, { class: "wide" }), h = el("tr"), body = el("tbody"), thead = el("thead"), heads = [];
    columns.forEach(([name, key, left, down]) => {
      const th = el("th", null, { scope: "col" });
      if (left) th.className = "left";
      if (key) {
        const b = el("button", name, { type: "button", "data-sort": key });
        b.addEventListener("click", () => {
          if (state.key === key) state.down = !state.down;
          else { state.key = key; state.down = !!down; }
          marks();
          changed();
        });
        th.appendChild(b);
        heads.push([th, b, name, key]);
      } else th.textContent = name;
      h.appendChild(th);
    });
    function marks() {
      heads.forEach(([th, b, name, key]) => {
        const on = state.key === key;
        b.textContent = name + (on ? (state.down ? " ▾" : " ▴") : "");
        if (on) th.setAttribute("aria-sort", state.down ? "descending" : "ascending");
        else th.removeAttribute("aria-sort");
      });
    }
    marks();
    thead.appendChild(h);
    t.append(thead, body);
    where.replaceChildren(t);
    return { fill: (rows) => body.replaceChildren(...rows) };
  }
  // By numbers, what is none last; or by text. Equal ones stay in their order.
  function sorted(list, value, down) {
    const sign = down ? -1 : 1;
    return list.sort((a, b) => {
      const x = value(a), y = value(b);
      if (typeof x === "string") return sign * (x < y ? -1 : x > y ? 1 : 0) || a - b;
      if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y) || a - b;
      return sign * (x - y) || a - b;
    });
  }
  document.querySelectorAll(".copy").forEach((b) => b.addEventListener("click", () => {
    const range = document.createRange(), selection = getSelection(), text = at(b.dataset.copy);
    range.selectNodeContents(text);
    selection.removeAllRanges();
    selection.addRange(range);
    let done = false;
    try { done = document.execCommand("copy"); } catch (e) { done = false; }
    b.textContent = done ? "copied" : "selected";
    setTimeout(() => { b.textContent = "copy"; }, 1500);
  }));
  // What is folded is printed, too.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((d) => { d.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((d) => { d.open = false; }));
  const hooks = {};
