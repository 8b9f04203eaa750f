
  // One gene: its links as arcs and as rows. Maps: all cells, the types, then attention where there is any.
  const T = D.told_by_attention;
  const A = { gene: u32(T.gene), peak: u32(T.peak), score: f32(T.score), cells: u32(T.cells) };
  const ATTENTION = typeNames.length + 1;
  const input = at("gene-name"), chips = at("gene-types"), arcs = at("gene-arcs"), list = at("gene-links"), suggest = at("gene-suggest");
  let gene = -1, geneMap = 0;
  const byName = new Map(genes.name.map((g, i) => [g, i]).reverse());
  const byLower = new Map(genes.name.map((g, i) => [g.toLowerCase(), i]).reverse());
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
  // What is drawn of a gene in a map: peak, score, and a row of the table of links (none of attention).
  function linksOf(g, m) {
    const out = [];
    if (m === ATTENTION) {
      for (let i = 0; i < A.gene.length; i++) if (A.gene[i] === g) out.push({ peak: A.peak[i], score: A.score[i], cells: A.cells[i], row: -1, counts: true });
    } else {
      for (let i = 0; i < n; i++)
        if (L.gene[i] === g && (m === 0 || inType(i, m - 1))) out.push({ peak: L.peak[i], score: L.probability[i], cells: L.cells[i], row: i, counts: counts(i) });
    }
    return out.sort((a, b) => b.score - a.score || a.row - b.row);
  }
  // Shows a gene by its name; other tracks of it go into #gene-tracks. Tells whether it is on the page.
  function drawGene(name, m) {
    const i = find(name);
    if (i < 0) return false;
    gene = i;
    const all = [];
    for (let k = 0; k <= ATTENTION; k++) all.push(linksOf(i, k));
    geneMap = m !== undefined && all[m].length ? m : Math.max(0, all.findIndex((l) => l.length));
    at("gene-title").textContent = genes.name[i];
    chips.replaceChildren();
    all.forEach((links, k) => {
      if (!links.length) return;
      const called = k === 0 ? "all cells" : k === ATTENTION ? "attention" : typeNames[k - 1];
      const b = el("button", `${called} ${links.length}`, { type: "button", "aria-pressed": String(k === geneMap) });
      b.addEventListener("click", () => { drawGene(genes.name[i], k); chips.querySelector('[aria-pressed="true"]').focus(); });
      chips.appendChild(b);
    });
    const links = all[geneMap];
    drawArcs(i, links);
    const rows = links.slice(0, 40);
    const t = sortable(list, geneMap === ATTENTION ? [["peak", null, true], ["attention"], ["cells"]] : HEAD.slice(1).map(([name, , left]) => [name, null, left]), {}, () => {});
    t.fill(rows.map((l) => {
      if (l.row >= 0) return row(l.row, false);
      const tr = el("tr");
      tr.append(el("td", peakName(l.peak), { class: "left" }), el("td", brief(l.score)), el("td", whole(l.cells)));
      return tr;
    }));
    return true;
  }
  function step(span, count) {
    const rough = span / count, power = Math.pow(10, Math.floor(Math.log10(rough)));
    return [1, 2, 5, 10].map((k) => k * power).find((s) => s >= rough * 0.999) || 10 * power;
  }
  function drawArcs(g, links) {
    arcs.replaceChildren();
    tracks.replaceChildren();
    const tss = genes.tss[g];
    if (tss < 0) { arcs.appendChild(el("p", "The data have no TSS of this gene, so it cannot be drawn.", { class: "note" })); return; }
    let drawn = links.filter((l) => peaks.start[l.peak] >= 0).slice(0, 40).reverse();
    if (!drawn.length) { arcs.appendChild(el("p", "No link of this gene has a place.", { class: "note" })); return; }
    const W = Math.max(320, Math.min(1200, arcs.clientWidth || 1200)), LEFT = 24, WIDTH = W - 48, BASE = 270;
    const middle = (l) => (peaks.start[l.peak] + peaks.end[l.peak]) / 2;
    let lo = tss, hi = tss;
    // Links say how far the view goes; of pairs that are none those in view are drawn.
    const strong = drawn.filter((l) => l.counts);
    if (strong.length && strong.length < drawn.length) { lo = tss - 30000; hi = tss + 30000; }
    (strong.length ? strong : drawn).forEach((l) => { lo = Math.min(lo, peaks.start[l.peak]); hi = Math.max(hi, peaks.end[l.peak]); });
    // The gene itself is in view where its model is known and not far longer than the rest.
    if (M) for (let k = 0; k < M.gene.length; k++)
      if (M.gene[k] === g && M.span[2 * k + 1] - M.span[2 * k] < 4 * Math.max(hi - lo, 50000)) {
        lo = Math.min(lo, M.span[2 * k]);
        hi = Math.max(hi, M.span[2 * k + 1]);
      }
    const room = Math.max(500, (hi - lo) / 25);
    lo = Math.max(0, lo - room);
    hi += room;
    drawn = drawn.filter((l) => peaks.start[l.peak] >= lo && peaks.end[l.peak] <= hi);
    const px = (b) => LEFT + (WIDTH * (b - lo)) / (hi - lo);
    drawTracks(g, lo, hi, W, LEFT, WIDTH, new Set(drawn.map((l) => l.peak)));
    const s = svg("svg", { viewBox: `0 0 ${W} 378`, width: W, role: "img", "aria-label": "links of " + genes.name[g], "font-size": 14 });
    const most = drawn.reduce((m, l) => Math.max(m, l.score), 0) || 1, x0 = px(tss);
    const reach = drawn.reduce((m, l) => Math.max(m, Math.abs(px(middle(l)) - x0)), 1);
    drawn.forEach((l) => {
      const x = px(middle(l)), t = l.score / most, h = 30 + 190 * Math.sqrt(Math.abs(x - x0) / reach), up = BASE - (h * 4) / 3;
      const a = x0 + (x - x0) * 0.15, b = x - (x - x0) * 0.15;
      const p = svg("path", { class: "arc", d: `M${x0} ${BASE}C${a} ${up} ${b} ${up} ${x} ${BASE}`, fill: "none", stroke: l.counts ? ramp(0.25 + 0.75 * t) : "var(--grid)", "stroke-width": l.counts ? 1.4 + 3.6 * t : 1.2 });
      p.appendChild(svg("title", {}, `${peakName(l.peak)}: score ${brief(l.score)}, ${whole(l.cells)} cells`));
      s.appendChild(p);
    });
    s.appendChild(svg("line", { x1: LEFT, x2: LEFT + WIDTH, y1: BASE, y2: BASE, stroke: "var(--ink)" }));
    drawn.forEach((l) => {
      const from = px(peaks.start[l.peak]), w = Math.max(3, px(peaks.end[l.peak]) - from);
      s.appendChild(svg("rect", { x: from, y: BASE - 1, width: w, height: 12, class: l.counts ? "fill" : "weak" }));
    });
    s.appendChild(svg("path", { d: `M${x0 - 6} ${BASE + 25}h12l-6 -12z`, fill: "var(--ink)" }));
    const anchor = x0 < 120 ? "start" : x0 > W - 120 ? "end" : "middle";
    s.appendChild(svg("text", { x: x0, y: BASE + 41, "text-anchor": anchor, fill: "var(--ink)", "font-weight": 600 }, genes.name[g] + " TSS"));
    s.appendChild(svg("line", { x1: LEFT, x2: LEFT + WIDTH, y1: BASE + 52, y2: BASE + 52, stroke: "var(--ink)" }));
    const unit = hi - lo > 1.5e6 ? 1e6 : 1e3, by = step((hi - lo) / unit, Math.max(3, W / 110)), decimals = Math.max(0, -Math.floor(Math.log10(by)));
    for (let m = Math.ceil(lo / unit / by) * by; m <= hi / unit; m += by) {
      const x = px(m * unit);
      s.appendChild(svg("line", { x1: x, x2: x, y1: BASE + 52, y2: BASE + 57, stroke: "var(--ink)" }));
      s.appendChild(svg("text", { x, y: BASE + 73, "text-anchor": "middle", fill: "var(--ink)" }, m.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals })));
    }
    s.appendChild(svg("text", { x: W / 2, y: BASE + 98, "text-anchor": "middle", fill: "var(--muted)" }, `position on ${D.chroms[genes.chrom[g]]} (${unit === 1e6 ? "Mb" : "kb"})`));
    arcs.appendChild(s);
    const weak = drawn.some((l) => !l.counts) ? `; grey: q above ${D.links.max_q}, no link by this discovery` : "";
    arcs.appendChild(el("p", `${drawn.length} of the ${links.length} pairs on this page; wider and ${dark.matches ? "lighter" : "darker"} for a higher ${links[0].row < 0 ? "attention" : "probability"} (highest ${brief(most)})${weak}.`, { class: "note" }));
  }
  input.addEventListener("input", () => {
    showSuggestions(input.value.trim());
    drawGene(input.value.trim());
  });
  input.addEventListener("keydown", (e) => {
    if (e.key !== "Enter") return;
    const i = find(input.value.trim());
    if (i >= 0) goGene(i);
    else { const first = suggest.querySelector("button"); if (first) first.click(); }
  });
  let drawnAt = 0;
  addEventListener("resize", () => {
    if (gene < 0 || Math.abs(innerWidth - drawnAt) < 20) return;
    drawnAt = innerWidth;
    drawGene(genes.name[gene], geneMap);
  });
  dark.addEventListener("change", () => { if (gene >= 0) drawGene(genes.name[gene], geneMap); });
