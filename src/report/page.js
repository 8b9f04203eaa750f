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

  // Cells in a plane.
  function plane(E) {
    const canvas = at("plane"), legend = at("legend");
    const x = u16(E.x), y = u16(E.y), type = u16(E.type);
    let only = -1;
    const order = Array.from(x, (_, i) => i);
    // Drawn in a scattered order, so that no type lies on top.
    order.sort((a, b) => ((a * 2654435761) >>> 0) - ((b * 2654435761) >>> 0));
    function draw() {
      const ratio = window.devicePixelRatio || 1, w = canvas.clientWidth || 900, h = Math.round(w * 0.68);
      canvas.width = w * ratio;
      canvas.height = h * ratio;
      canvas.style.height = h + "px";
      const c = canvas.getContext("2d");
      c.setTransform(ratio, 0, 0, ratio, 0, 0);
      c.clearRect(0, 0, w, h);
      const left = 34, bottom = h - 34, top = 8, right = w - 8;
      const px = (v) => left + 6 + (v / 65535) * (right - left - 12), py = (v) => bottom - 6 - (v / 65535) * (bottom - top - 12);
      c.strokeStyle = css("--ink");
      c.beginPath();
      c.moveTo(left, top);
      c.lineTo(left, bottom);
      c.lineTo(right, bottom);
      c.stroke();
      c.fillStyle = css("--ink");
      c.font = "14px system-ui, sans-serif";
      c.textAlign = "center";
      c.fillText(E.axes[0], (left + right) / 2, h - 10);
      c.save();
      c.translate(18, (top + bottom) / 2);
      c.rotate(-Math.PI / 2);
      c.fillText(E.axes[1], 0, 0);
      c.restore();
      const r = Math.max(1.6, Math.min(4.2, 230 / Math.sqrt(x.length)));
      const inks = E.types.map((t) => ink(t.colour)), none = css("--muted");
      const faint = css("--grid");
      if (only >= 0) {
        c.globalAlpha = 0.6;
        c.fillStyle = faint;
        for (const i of order) if (type[i] !== only) mark(c, "disc", px(x[i]), py(y[i]), r * 0.8);
      }
      c.globalAlpha = 0.8;
      for (const i of order) {
        if (only >= 0 && type[i] !== only) continue;
        const t = E.types[type[i]];
        c.fillStyle = t ? inks[type[i]] : none;
        mark(c, t ? t.shape : "disc", px(x[i]), py(y[i]), r);
      }
      c.globalAlpha = 1;
      if (only < 0) {
        c.font = "600 14px system-ui, sans-serif";
        c.lineWidth = 3.5;
        c.lineJoin = "round";
        c.strokeStyle = css("--card");
        c.fillStyle = css("--ink");
        const taken = [];
        E.types.map((t) => [px(t.middle[0]), py(t.middle[1]), t]).sort((a, b) => a[1] - b[1]).forEach(([mx, my, t]) => {
          if (!t.count) return;
          const half = c.measureText(t.name).width / 2;
          mx = Math.max(left + half, Math.min(right - half, mx));
          let hit;
          while ((hit = taken.find((b) => mx - half < b[2] && mx + half > b[0] && my - 14 < b[3] && my + 3 > b[1]))) my = hit[3] + 14.5;
          taken.push([mx - half, my - 14, mx + half, my + 3]);
          c.strokeText(t.name, mx, my);
          c.fillText(t.name, mx, my);
        });
      }
    }
    E.types.forEach((t, i) => {
      const b = el("button", null, { type: "button", "aria-pressed": "false" });
      const s = svg("svg", { width: 14, height: 14, viewBox: "-1.5 -1.5 3 3" });
      const corners = CORNERS[t.shape];
      const fill = t.colour === "ink" ? "var(--ink)" : t.colour;
      s.appendChild(corners ? svg("polygon", { points: corners.map((p) => p.join(",")).join(" "), fill }) : svg("circle", { r: 1.1, fill }));
      b.append(s, el("span", t.name), el("span", whole(t.count), { class: "count" }));
      b.addEventListener("click", () => {
        only = only === i ? -1 : i;
        legend.querySelectorAll("button").forEach((o, k) => o.setAttribute("aria-pressed", String(k === only)));
        draw();
      });
      legend.appendChild(b);
    });
    draw();
    addEventListener("resize", draw);
    dark.addEventListener("change", draw);
  }
  if (D.embedding) plane(D.embedding);
  if (!D.links) return;

  // Links: columns of numbers, map after map.
  const L = {
    gene: u32(D.links.gene), peak: u32(D.links.peak), score: f32(D.links.score), z: f32(D.links.z), q: f32(D.links.q),
    cells: u32(D.links.cells),
  };
  const genes = { name: D.genes.names, chrom: u16(D.genes.chrom), tss: i32(D.genes.tss) };
  const peaks = { name: D.peaks.names, chrom: u16(D.peaks.chrom), start: i32(D.peaks.start), end: i32(D.peaks.end) };
  const n = L.gene.length;
  const map = new Uint16Array(n);
  D.maps.forEach((m, i) => map.fill(i, m.from, m.from + m.kept));
  const mapName = (i) => (i === 0 ? "all cells" : D.maps[i].name);
  const peakName = (p) => peaks.name[p] || `${D.chroms[peaks.chrom[p]]}:${peaks.start[p]}-${peaks.end[p]}`;
  const distance = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    const p = L.peak[i], t = genes.tss[L.gene[i]];
    distance[i] = t < 0 || peaks.start[p] < 0 ? NaN : Math.abs((peaks.start[p] + peaks.end[p]) / 2 - t);
  }

  function table(head, rows, state, sort) {
    const t = el("table", null, { class: "wide" }), h = el("tr");
    head.forEach(([name, key]) => {
      const th = el("th", null, { scope: "col" });
      if (sort && key) {
        const arrow = state.key === key ? (state.down ? " ▾" : " ▴") : "";
        const b = el("button", name + arrow, { type: "button" });
        b.addEventListener("click", () => sort(key));
        th.appendChild(b);
        if (state.key === key) th.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      } else th.textContent = name;
      if (name === "peak" && head.length > 4) th.className = "left";
      h.appendChild(th);
    });
    const thead = el("thead"), body = el("tbody");
    thead.appendChild(h);
    rows.forEach((r) => body.appendChild(r));
    t.append(thead, body);
    return t;
  }
  const goGene = (g) => { location.hash = "gene=" + encodeURIComponent(genes.name[g]); };
  function row(i, withGene) {
    const tr = el("tr");
    if (withGene) {
      const td = el("td"), b = el("button", genes.name[L.gene[i]], { type: "button" });
      b.addEventListener("click", () => goGene(L.gene[i]));
      td.appendChild(b);
      tr.appendChild(td);
    }
    tr.append(el("td", peakName(L.peak[i]), { class: "left" }), el("td", isFinite(distance[i]) ? whole(Math.round(distance[i])) : "–"),
      el("td", brief(L.score[i])), el("td", brief(L.z[i])), el("td", brief(L.q[i])), el("td", whole(L.cells[i])),
      el("td", mapName(map[i])));
    return tr;
  }
  const HEAD = [["gene", "gene"], ["peak", "peak"], ["distance (bases)", "distance"], ["score", "score"], ["z", "z"], ["q", "q"],
    ["cells", "cells"], ["cell type", "map"]];

  // The table of links.
  // At first those of the evidence, where there are any.
  const trusted = D.maps.findIndex((m) => m.unit !== undefined);
  const state = { key: "score", down: true, text: "", map: trusted, page: 0 };
  const PAGE = 50;
  let shown = [];
  function select() {
    const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
    const lowGene = genes.name.map((x) => x.toLowerCase());
    const memo = new Map();
    const peakText = (p) => {
      let s = memo.get(p);
      if (s === undefined) memo.set(p, (s = peakName(p).toLowerCase()));
      return s;
    };
    const types = D.maps.map((_, i) => mapName(i).toLowerCase());
    shown = [];
    for (let i = 0; i < n; i++) {
      if (state.map >= 0 && map[i] !== state.map) continue;
      if (words.length && !words.every((w) => lowGene[L.gene[i]].includes(w) || types[map[i]].includes(w) || peakText(L.peak[i]).includes(w))) continue;
      shown.push(i);
    }
    const text = { gene: (i) => genes.name[L.gene[i]], peak: (i) => peakName(L.peak[i]) }[state.key];
    const number = { distance, score: L.score, z: L.z, q: L.q, cells: L.cells, map }[state.key];
    const sign = state.down ? -1 : 1;
    shown.sort((a, b) => {
      if (text) { const x = text(a), y = text(b); return sign * (x < y ? -1 : x > y ? 1 : 0) || a - b; }
      const x = number[a], y = number[b];
      if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y) || a - b;
      return sign * (x - y) || a - b;
    });
  }
  function drawLinks() {
    const pages = Math.max(1, Math.ceil(shown.length / PAGE));
    state.page = Math.max(0, Math.min(state.page, pages - 1));
    const from = state.page * PAGE;
    const rows = shown.slice(from, from + PAGE).map((i) => row(i, true));
    at("links-table").replaceChildren(table(HEAD, rows, state, (key) => {
      if (state.key === key) state.down = !state.down;
      else { state.key = key; state.down = key === "score" || key === "z" || key === "cells"; }
      state.page = 0;
      select();
      drawLinks();
    }));
    at("links-count").textContent = `${whole(shown.length)} of ${whole(n)} links, page ${state.page + 1} of ${whole(pages)}`;
    at("links-back").disabled = state.page === 0;
    at("links-next").disabled = state.page >= pages - 1;
  }
  function options(select, first) {
    if (first) select.appendChild(el("option", first, { value: -1 }));
    D.maps.forEach((_, i) => select.appendChild(el("option", mapName(i), { value: i })));
  }
  options(at("links-map"), "every map");
  at("links-map").value = String(trusted);
  const filter = at("links-filter");
  let timer;
  filter.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => { state.text = filter.value; state.page = 0; select(); drawLinks(); }, 120);
  });
  at("links-map").addEventListener("change", (e) => { state.map = Number(e.target.value); state.page = 0; select(); drawLinks(); });
  at("links-back").addEventListener("click", () => { state.page--; drawLinks(); });
  at("links-next").addEventListener("click", () => { state.page++; drawLinks(); });

  // Tops of a cell type.
  const pick = at("type-pick");
  options(pick);
  function bars(id, rows, name, draw) {
    const most = rows.reduce((m, r) => Math.max(m, r[1]), 0) || 1;
    const trs = rows.map(([what, value]) => {
      const tr = el("tr"), first = el("td"), bar = el("td", null, { class: "bars" }), fill = el("div", null, { class: "bar" });
      first.appendChild(draw(what));
      fill.style.width = (100 * value) / most + "%";
      bar.appendChild(fill);
      tr.append(first, el("td", brief(value)), bar);
      return tr;
    });
    at(id).replaceChildren(table([[name], [D.maps[Number(pick.value)].unit || "attention a cell"], [""]], trs, {}));
  }
  function drawTops() {
    const m = D.maps[Number(pick.value)];
    bars("top-genes", m.genes, "gene", (name) => {
      const b = el("button", name, { type: "button" });
      b.addEventListener("click", () => { location.hash = "gene=" + encodeURIComponent(name); });
      return b;
    });
    bars("top-peaks", m.peaks, "peak", (name) => el("span", name));
  }
  pick.addEventListener("change", drawTops);

  // One gene.
  const input = at("gene-name"), chips = at("gene-types"), arcs = at("gene-arcs"), list = at("gene-links"), suggest = at("gene-suggest");
  let gene = -1, geneMap = 0;
  const byName = new Map(genes.name.map((g, i) => [g, i]).reverse());
  const byLower = new Map(genes.name.map((g, i) => [g.toLowerCase(), i]).reverse());
  const has = new Uint32Array(genes.name.length);
  for (let i = 0; i < n; i++) has[L.gene[i]]++;
  function find(text) {
    const exact = byName.has(text) ? byName.get(text) : byLower.get(text.toLowerCase());
    return exact === undefined ? -1 : exact;
  }
  function showSuggestions(text) {
    const low = text.toLowerCase();
    suggest.replaceChildren();
    if (!low) return;
    const starts = [], holds = [];
    genes.name.forEach((g, i) => {
      const l = g.toLowerCase();
      if (l.startsWith(low)) starts.push(i);
      else if (l.includes(low)) holds.push(i);
    });
    const all = starts.concat(holds);
    all.slice(0, 15).forEach((i) => {
      const b = el("button", genes.name[i], { type: "button" });
      b.addEventListener("click", () => goGene(i));
      suggest.appendChild(b);
    });
    if (!all.length) suggest.appendChild(el("span", "no gene with links has such a name", { class: "note" }));
  }
  function showGene(i, m) {
    gene = i;
    const mine = [];
    for (let k = 0; k < n; k++) if (L.gene[k] === i) mine.push(k);
    const counts = D.maps.map((_, k) => mine.filter((l) => map[l] === k).length);
    geneMap = m !== undefined && counts[m] ? m : counts[trusted] ? trusted : counts[0] ? 0 : Math.max(0, counts.findIndex((c) => c > 0));
    at("gene-title").textContent = genes.name[i];
    chips.replaceChildren();
    counts.forEach((c, k) => {
      if (!c) return;
      const b = el("button", `${mapName(k)} ${c}`, { type: "button", "aria-pressed": String(k === geneMap) });
      b.addEventListener("click", () => showGene(i, k));
      chips.appendChild(b);
    });
    const links = mine.filter((l) => map[l] === geneMap).sort((a, b) => L.score[b] - L.score[a]);
    drawArcs(i, links);
    list.replaceChildren(table(HEAD.slice(1).map((h) => [h[0]]), links.slice(0, 40).map((l) => row(l, false)), {}));
  }
  function step(span, count) {
    const rough = span / count, power = Math.pow(10, Math.floor(Math.log10(rough)));
    return [1, 2, 5, 10].map((k) => k * power).find((s) => s >= rough * 0.999) || 10 * power;
  }
  function drawArcs(g, links) {
    arcs.replaceChildren();
    const tss = genes.tss[g];
    if (tss < 0) { arcs.appendChild(el("p", "The data have no TSS of this gene, so it cannot be drawn.", { class: "note" })); return; }
    const drawn = links.filter((l) => peaks.start[L.peak[l]] >= 0).slice(0, 40).reverse();
    if (!drawn.length) { arcs.appendChild(el("p", "No link of this gene has a place.", { class: "note" })); return; }
    const W = 1200, LEFT = 40, WIDTH = 1120, BASE = 270;
    const middle = (l) => (peaks.start[L.peak[l]] + peaks.end[L.peak[l]]) / 2;
    let lo = tss, hi = tss;
    drawn.forEach((l) => { lo = Math.min(lo, peaks.start[L.peak[l]]); hi = Math.max(hi, peaks.end[L.peak[l]]); });
    const room = Math.max(500, (hi - lo) / 25);
    lo = Math.max(0, lo - room);
    hi += room;
    const px = (b) => LEFT + (WIDTH * (b - lo)) / (hi - lo);
    const s = svg("svg", { viewBox: `0 0 ${W} 378`, role: "img", "aria-label": "links of " + genes.name[g], "font-size": 14 });
    const most = drawn.reduce((m, l) => Math.max(m, L.score[l]), 0) || 1, x0 = px(tss);
    const reach = drawn.reduce((m, l) => Math.max(m, Math.abs(px(middle(l)) - x0)), 1);
    drawn.forEach((l) => {
      const x = px(middle(l)), t = L.score[l] / most, h = 30 + 190 * Math.sqrt(Math.abs(x - x0) / reach), up = BASE - (h * 4) / 3;
      const a = x0 + (x - x0) * 0.15, b = x - (x - x0) * 0.15;
      const p = svg("path", { class: "arc", d: `M${x0} ${BASE}C${a} ${up} ${b} ${up} ${x} ${BASE}`, fill: "none", stroke: ramp(0.2 + 0.8 * t), "stroke-width": 1.2 + 4.3 * t });
      p.appendChild(svg("title", {}, `${peakName(L.peak[l])}: score ${brief(L.score[l])}, ${whole(L.cells[l])} cells`));
      s.appendChild(p);
    });
    s.appendChild(svg("line", { x1: LEFT, x2: LEFT + WIDTH, y1: BASE, y2: BASE, stroke: "var(--ink)" }));
    drawn.forEach((l) => {
      const from = px(peaks.start[L.peak[l]]), w = Math.max(3, px(peaks.end[L.peak[l]]) - from);
      s.appendChild(svg("rect", { x: from, y: BASE - 1, width: w, height: 12, fill: "#0072b2" }));
    });
    s.appendChild(svg("path", { d: `M${x0 - 6} ${BASE + 25}h12l-6 -12z`, fill: "var(--ink)" }));
    const anchor = x0 < 120 ? "start" : x0 > W - 120 ? "end" : "middle";
    s.appendChild(svg("text", { x: x0, y: BASE + 41, "text-anchor": anchor, fill: "var(--ink)", "font-weight": 600 }, genes.name[g] + " TSS"));
    s.appendChild(svg("line", { x1: LEFT, x2: LEFT + WIDTH, y1: BASE + 52, y2: BASE + 52, stroke: "var(--ink)" }));
    const unit = hi - lo > 1.5e6 ? 1e6 : 1e3, by = step((hi - lo) / unit, 10), decimals = Math.max(0, -Math.floor(Math.log10(by)));
    for (let m = Math.ceil(lo / unit / by) * by; m <= hi / unit; m += by) {
      const x = px(m * unit);
      s.appendChild(svg("line", { x1: x, x2: x, y1: BASE + 52, y2: BASE + 57, stroke: "var(--ink)" }));
      s.appendChild(svg("text", { x, y: BASE + 73, "text-anchor": "middle", fill: "var(--ink)" }, m.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals })));
    }
    s.appendChild(svg("text", { x: W / 2, y: BASE + 98, "text-anchor": "middle", fill: "var(--muted)" },
      `position on ${D.chroms[genes.chrom[g]]} (${unit === 1e6 ? "Mb" : "kb"}); ${drawn.length} of the ${links.length} links on this page (the tables of the discovery hold all), wider and ${dark.matches ? "lighter" : "darker"} for higher scores (highest ${brief(most)})`));
    arcs.appendChild(s);
  }
  input.addEventListener("input", () => {
    const i = find(input.value.trim());
    showSuggestions(input.value.trim());
    if (i >= 0) showGene(i);
  });
  input.addEventListener("keydown", (e) => {
    if (e.key !== "Enter") return;
    const i = find(input.value.trim());
    if (i >= 0) goGene(i);
    else { const first = suggest.querySelector("button"); if (first) first.click(); }
  });
  dark.addEventListener("change", () => { if (gene >= 0) showGene(gene, geneMap); });

  // #gene=NAME and #filter=TEXT.
  function fragment() {
    const parts = new URLSearchParams(location.hash.slice(1));
    const text = parts.get("filter");
    if (text !== null) { filter.value = text; state.text = text; state.page = 0; select(); drawLinks(); at("links").scrollIntoView(); }
    const name = parts.get("gene");
    if (name !== null) {
      input.value = name;
      const i = find(name);
      suggest.replaceChildren();
      if (i >= 0) showGene(i);
      else showSuggestions(name);
      at("gene").scrollIntoView();
    }
  }
  select();
  drawLinks();
  drawTops();
  const first = D.maps[0].genes.map((g) => find(g[0])).find((i) => i >= 0);
  if (first !== undefined) showGene(first);
  else if (n) showGene(L.gene[0]);
  addEventListener("hashchange", fragment);
  fragment();
})();
