
  // How well each gene is told.
  function told(T) {
    const V = { pearson: f32(T.pearson), spearman: f32(T.spearman), auroc: f32(T.auroc), cells: u32(T.cells) };
    const state = { key: "pearson", down: true, text: "" }, all = T.names.map((_, i) => i), low = T.names.map((t) => t.toLowerCase());
    const columns = [["gene", "gene", true], ["Pearson", "pearson", false, true], ["Spearman", "spearman", false, true],
      ["AUROC", "auroc", false, true], ["cells with it", "cells", false, true]];
    const table = sortable(at("told-table"), columns, state, fill);
    function fill() {
      let rows = all.filter((i) => low[i].includes(state.text));
      rows = sorted(rows, state.key === "gene" ? (i) => low[i] : (i) => V[state.key][i], state.down);
      at("told-count").textContent = `${whole(rows.length)} of ${whole(all.length)} genes${rows.length > 25 ? ", the first 25" : ""}`;
      table.fill(rows.slice(0, 25).map((i) => {
        const tr = el("tr"), td = el("td", null, { class: "left" }), b = el("button", T.names[i], { type: "button" });
        b.addEventListener("click", () => { location.hash = "gene=" + encodeURIComponent(T.names[i]); });
        td.appendChild(b);
        tr.append(td, ...["pearson", "spearman", "auroc"].map((k) => el("td", V[k][i].toFixed(3))), el("td", whole(V.cells[i])));
        return tr;
      }));
    }
    at("told-filter").addEventListener("input", (e) => { state.text = e.target.value.trim().toLowerCase(); fill(); });
    // A histogram of the correlations.
    const values = Array.from(V.pearson), lo = Math.floor(Math.min(0, ...values.slice(-1)) * 10) / 10, hi = Math.ceil(Math.max(0.1, values[0]) * 10) / 10;
    const bins = new Array(Math.max(1, Math.round((hi - lo) / 0.05))).fill(0);
    values.forEach((v) => { bins[Math.max(0, Math.min(bins.length - 1, Math.floor((v - lo) / 0.05)))]++; });
    const most = Math.max(...bins), W = 340, H = 220, left = 44, base = H - 44, px = (v) => left + ((W - left - 12) * (v - lo)) / (hi - lo);
    const s = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "genes by Pearson correlation", "font-size": 13 });
    bins.forEach((b, k) => {
      const x = px(lo + k * 0.05), w = px(lo + (k + 1) * 0.05) - x, h = ((base - 12) * b) / most;
      const r = svg("rect", { x: x + 0.5, y: base - h, width: Math.max(1, w - 1), height: h, class: "fill" });
      r.appendChild(svg("title", {}, `${(lo + k * 0.05).toFixed(2)} to ${(lo + (k + 1) * 0.05).toFixed(2)}: ${whole(b)} genes`));
      s.appendChild(r);
    });
    s.appendChild(svg("line", { x1: left, x2: W - 12, y1: base, y2: base, stroke: "var(--ink)" }));
    const every = hi - lo > 0.8 ? 0.2 : 0.1;
    for (let t = Math.ceil(lo / every - 1e-9); t * every <= hi + 1e-9; t++)
      s.appendChild(svg("text", { x: px(t * every), y: base + 17, "text-anchor": "middle", fill: "var(--ink)" }, (t * every).toFixed(1)));
    s.appendChild(svg("text", { x: left - 6, y: 18, "text-anchor": "end", fill: "var(--ink)" }, whole(most)));
    s.appendChild(svg("text", { x: left - 6, y: base, "text-anchor": "end", fill: "var(--ink)" }, "0"));
    s.appendChild(svg("text", { x: (left + W - 12) / 2, y: H - 8, "text-anchor": "middle", fill: "var(--muted)" }, "Pearson correlation; genes a bar of 0.05"));
    at("told-histogram").replaceChildren(s);
    fill();
  }
  if (D.told) told(D.told);
