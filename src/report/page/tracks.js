
  // Above the links of a gene: how open each peak is in each type, and the models of the genes on this page.
  const C = D.coverage, heightOf = C ? u8(C.heights) : null;
  const M = D.models ? { gene: u32(D.models.gene), span: i32(D.models.span), strand: u8(D.models.strand), first: u32(D.models.first), exons: i32(D.models.exons) } : null;
  const tracks = at("gene-tracks");
  const onChrom = new Map();
  for (let p = 0; p < peaks.start.length; p++) {
    if (peaks.start[p] < 0) continue;
    if (!onChrom.has(peaks.chrom[p])) onChrom.set(peaks.chrom[p], []);
    onChrom.get(peaks.chrom[p]).push(p);
  }
  function drawTracks(g, lo, hi, W, LEFT, WIDTH, linked) {
    tracks.replaceChildren();
    if (!C && !M) return;
    const px = (b) => LEFT + (WIDTH * (Math.max(lo, Math.min(hi, b)) - lo)) / (hi - lo);
    const inside = (onChrom.get(genes.chrom[g]) || []).filter((p) => peaks.end[p] > lo && peaks.start[p] < hi);
    const P = peaks.start.length, open = (t, p) => { const q = heightOf[t * P + p] / 255; return C.greatest * q * q; };
    const models = [];
    if (M) for (let k = 0; k < M.gene.length; k++)
      if (genes.chrom[M.gene[k]] === genes.chrom[g] && M.span[2 * k + 1] > lo && M.span[2 * k] < hi) models.push(k);
    // Names of types stand in their rows; a model goes into the first line that has room for it and its name.
    const ROW = 26, types = C ? C.types.length : 0, lines = [];
    models.sort((a, b) => (M.gene[b] === g) - (M.gene[a] === g) || M.span[2 * a] - M.span[2 * b]);
    const placed = models.map((k) => {
      const from = px(M.span[2 * k]), to = Math.max(px(M.span[2 * k + 1]), from + 8 * genes.name[M.gene[k]].length + 6);
      let l = lines.findIndex((line) => line.every(([a, b]) => to + 8 < a || from > b + 8));
      if (l < 0) l = lines.push([]) - 1;
      lines[l].push([from, to]);
      return [k, l];
    }).filter(([k, l]) => l < 6);
    const under = ROW * types + 8, LINE = 30, H = under + LINE * Math.min(6, lines.length) + (M ? 6 : 0);
    const s = svg("svg", { viewBox: `0 0 ${W} ${H}`, width: W, role: "img", "aria-label": "coverage by cell type around " + genes.name[g], "font-size": 12 });
    if (C) {
      let most = 0;
      for (let t = 0; t < types; t++) inside.forEach((p) => { most = Math.max(most, open(t, p)); });
      C.types.forEach((name, t) => {
        const base = ROW * (t + 1);
        s.appendChild(svg("line", { x1: LEFT, x2: LEFT + WIDTH, y1: base, y2: base, stroke: "var(--grid)" }));
        inside.forEach((p) => {
          const h = most > 0 ? ((ROW - 4) * open(t, p)) / most : 0, x = px(peaks.start[p]), w = Math.max(2, px(peaks.end[p]) - x);
          const bar = svg("rect", { x, y: base - h, width: w, height: h, class: linked.has(p) ? "fill" : "track" });
          bar.appendChild(svg("title", {}, `${name}, ${peakName(p)}: ${brief(open(t, p))}`));
          s.appendChild(bar);
        });
        const label = svg("text", { x: LEFT, y: base - ROW + 12, fill: "var(--muted)", class: "halo" }, `${name} (${whole(C.cells[t])})`);
        s.appendChild(label);
      });
      tracks.appendChild(s);
      tracks.appendChild(el("p", `Accessibility by cell type (cells in brackets): ${C.unit}; rows alike, 0 to ${brief(most)}. ${linked.size ? "Blue: peaks drawn below." : ""}${M ? " Below the rows: genes on this page, with their exons." : ""}`, { class: "note" }));
    } else tracks.appendChild(s);
    placed.forEach(([k, l]) => {
      const y = under + LINE * l + 8, own = M.gene[k] === g, ink = own ? "var(--ink)" : "var(--muted)";
      const a = px(M.span[2 * k]), b = Math.max(a + 1, px(M.span[2 * k + 1]));
      s.appendChild(svg("line", { x1: a, x2: b, y1: y, y2: y, stroke: ink }));
      for (let e = M.first[k]; e < M.first[k + 1]; e++) {
        if (M.exons[2 * e + 1] < lo || M.exons[2 * e] > hi) continue;
        const x = px(M.exons[2 * e]);
        s.appendChild(svg("rect", { x, y: y - 4, width: Math.max(1.5, px(M.exons[2 * e + 1]) - x), height: 8, fill: ink }));
      }
      const name = genes.name[M.gene[k]], arrow = ["← ", "", ""][M.strand[k]] || "", after = M.strand[k] === 1 ? " →" : "";
      const x = Math.min(a, W - LEFT - 7 * (name.length + 2));
      s.appendChild(svg("text", { x, y: y + 17, fill: ink, "font-weight": own ? 600 : 400, class: "halo" }, arrow + name + after));
    });
  }
