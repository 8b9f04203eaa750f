  window.sccrossrec = hooks;
  if (!D.links) return;

  // Links: columns of numbers, in the order of their table.
  const L = {
    gene: u32(D.links.gene), peak: u32(D.links.peak), probability: f32(D.links.probability), q: f32(D.links.q),
    effect: f32(D.links.effect), cells: u16(D.links.cells), replicates: u8(D.links.replicates), agree: u8(D.links.agree),
    types: u8(D.links.types), width: D.links.width,
  };
  const genes = { name: D.genes.names, chrom: u16(D.genes.chrom), tss: i32(D.genes.tss) };
  const peaks = { name: D.peaks.names, chrom: u16(D.peaks.chrom), start: i32(D.peaks.start), end: i32(D.peaks.end) };
  const n = L.gene.length, typeNames = D.maps.slice(1).filter((m) => m.unit !== undefined).map((m) => m.name);
  const inType = (i, t) => (L.types[i * L.width + (t >> 3)] >> (t & 7)) & 1;
  const typesOf = (i) => typeNames.filter((_, t) => inType(i, t));
  const peakName = (p) => peaks.name[p] || `${D.chroms[peaks.chrom[p]]}:${peaks.start[p]}-${peaks.end[p]}`;
  const far = (g, p) => (genes.tss[g] < 0 || peaks.start[p] < 0 ? NaN : Math.abs((peaks.start[p] + peaks.end[p]) / 2 - genes.tss[g]));
  L.distance = Float64Array.from(L.gene, (g, i) => far(g, L.peak[i]));
  const counts = (i) => L.q[i] <= D.links.max_q + 1e-6;
  const goGene = (g) => { location.hash = "gene=" + encodeURIComponent(genes.name[g]); };

  // UCSC's browser opens where the reader clicks; the page itself asks for nothing.
  const genome = at("links-genome");
  genome.value = D.genome.name;
  function browser(g, p) {
    const db = genome.value.trim();
    if (!/^[A-Za-z0-9_.-]+$/.test(db) || peaks.start[p] < 0) return null;
    const chrom = D.chroms[peaks.chrom[p]], t = genes.tss[g];
    let lo = peaks.start[p], hi = peaks.end[p];
    if (t >= 0 && genes.chrom[g] === peaks.chrom[p]) { lo = Math.min(lo, t); hi = Math.max(hi, t); }
    const room = Math.max(500, Math.round((hi - lo) / 10));
    const place = `${/^chr/.test(chrom) ? "" : "chr"}${chrom}:${Math.max(1, lo - room)}-${hi + room}`;
    return `https://genome.ucsc.edu/cgi-bin/hgTracks?db=${encodeURIComponent(db)}&position=${encodeURIComponent(place)}`;
  }
  const dash = (x, text) => (isFinite(x) ? text : "–");
  const replicates = (i) => (L.replicates[i] ? `${L.agree[i]} of ${L.replicates[i]}` : "–");
  function row(i, withGene) {
    const tr = el("tr"), g = L.gene[i], p = L.peak[i];
    if (!counts(i)) tr.className = "weak";
    if (withGene) {
      const td = el("td", null, { class: "left" }), b = el("button", genes.name[g], { type: "button" });
      b.addEventListener("click", () => goGene(g));
      td.appendChild(b);
      tr.appendChild(td);
    }
    const types = typesOf(i), many = types.length > 3 ? `${types.slice(0, 2).join(", ")} and ${types.length - 2} more` : types.join(", ");
    const where = el("td", null, { class: "left" }), to = browser(g, p);
    if (to) where.appendChild(el("a", "UCSC", { href: to, target: "_blank", rel: "noopener noreferrer", "aria-label": `${genes.name[g]} in the UCSC browser` }));
    tr.append(el("td", peakName(p), { class: "left place" }), el("td", L.probability[i].toFixed(3)), el("td", brief(L.q[i])),
      el("td", dash(L.effect[i], L.effect[i].toFixed(2))), el("td", dash(L.distance[i], whole(Math.round(L.distance[i])))),
      el("td", whole(L.cells[i])), el("td", replicates(i)), el("td", many || "–", types.length > 3 ? { class: "left", title: types.join(", ") } : { class: "left" }), where);
    return tr;
  }
  const HEAD = [["gene", "gene", true], ["peak", "peak", true], ["probability", "probability", false, true], ["q", "q"],
    ["effect", "effect", false, true], ["distance", "distance"], ["cells", "cells", false, true],
    ["replicates", "agree", false, true], ["active in", "types", true], ["browser", null, true]];

  // The table: filters, order, pages.
  const FILTERS = { q: "links-q", probability: "links-probability", effect: "links-effect", distance: "links-distance", cells: "links-cells", agree: "links-replicates" };
  const filter = at("links-filter"), ofType = at("links-map");
  const state = { key: "probability", down: true, page: 0 };
  const PAGE = 50, lowGene = genes.name.map((x) => x.toLowerCase()), lowPeak = new Map();
  let shown = [];
  const linksTable = sortable(at("links-table"), HEAD, state, () => { state.page = 0; select(); });
  ofType.appendChild(el("option", "all cells", { value: -1 }));
  typeNames.forEach((name, t) => ofType.appendChild(el("option", name, { value: t })));
  if (D.links.selected > 0) at("links-q").value = D.links.max_q;
  const bound = (key) => { const text = at(FILTERS[key]).value.trim(); return text === "" ? NaN : Number(text); };
  function select() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean), t = Number(ofType.value);
    const peakText = (p) => {
      let s = lowPeak.get(p);
      if (s === undefined) lowPeak.set(p, (s = peakName(p).toLowerCase()));
      return s;
    };
    const q = bound("q"), kb = bound("distance");
    const least = ["probability", "effect", "cells", "agree"].map((k) => [L[k], bound(k)]).filter((x) => !isNaN(x[1]));
    shown = [];
    for (let i = 0; i < n; i++) {
      if (t >= 0 && !inType(i, t)) continue;
      if (!isNaN(q) && !(L.q[i] <= q + 1e-6)) continue;
      if (!isNaN(kb) && !(L.distance[i] <= kb * 1000)) continue;
      if (!least.every(([values, x]) => values[i] >= x - 1e-6)) continue;
      if (words.length && !words.every((w) => lowGene[L.gene[i]].includes(w) || peakText(L.peak[i]).includes(w))) continue;
      shown.push(i);
    }
    const text = { gene: (i) => lowGene[L.gene[i]], peak: (i) => peakText(L.peak[i]), types: (i) => typesOf(i).join(", ").toLowerCase() };
    sorted(shown, text[state.key] || ((i) => L[state.key][i]), state.down);
    drawLinks();
  }
  function drawLinks() {
    const pages = Math.max(1, Math.ceil(shown.length / PAGE));
    state.page = Math.max(0, Math.min(state.page, pages - 1));
    linksTable.fill(shown.slice(state.page * PAGE, (state.page + 1) * PAGE).map((i) => row(i, true)));
    at("links-count").textContent = shown.length
      ? `${whole(shown.length)} of the ${whole(n)} pairs on this page, sheet ${state.page + 1} of ${whole(pages)}`
      : `none of the ${whole(n)} pairs on this page passes the filters`;
    at("links-back").disabled = state.page === 0;
    at("links-next").disabled = state.page >= pages - 1;
  }
  let timer;
  const again = () => { clearTimeout(timer); timer = setTimeout(() => { state.page = 0; select(); }, 120); };
  [filter, ofType, ...Object.values(FILTERS).map(at)].forEach((f) => f.addEventListener("input", again));
  at("links-back").addEventListener("click", () => { state.page--; drawLinks(); });
  at("links-next").addEventListener("click", () => { state.page++; drawLinks(); });
  function clear() {
    [filter, ...Object.values(FILTERS).map(at)].forEach((f) => { f.value = ""; });
    ofType.value = "-1";
    state.page = 0;
    select();
  }
  at("links-clear").addEventListener("click", clear);

  // What the filters leave, as a table for other programs.
  function csv() {
    const quote = (x) => (/[",\n]/.test(x) ? `"${x.replace(/"/g, '""')}"` : x);
    const known = (x) => (x < 0 ? "" : x), number = (x) => (isFinite(x) ? String(Number(x.toPrecision(6))) : "");
    const lines = ["gene,chrom,tss,peak,start,end,probability,q,effect,distance,cells,replicates,replicates_agree,active_in"];
    shown.forEach((i) => {
      const g = L.gene[i], p = L.peak[i];
      lines.push([genes.name[g], D.chroms[peaks.chrom[p]], known(genes.tss[g]), peakName(p), known(peaks.start[p]), known(peaks.end[p]),
        number(L.probability[i]), number(L.q[i]), number(L.effect[i]), isFinite(L.distance[i]) ? Math.round(L.distance[i]) : "", L.cells[i],
        L.replicates[i], L.agree[i], typesOf(i).join(";")].map((x) => quote(String(x))).join(","));
    });
    return lines.join("\n") + "\n";
  }
  at("links-csv").addEventListener("click", () => {
    const a = el("a", null, { href: URL.createObjectURL(new Blob([csv()], { type: "text/csv" })), download: "links.csv" });
    document.body.appendChild(a);
    a.click();
    setTimeout(() => { URL.revokeObjectURL(a.href); a.remove(); }, 1000);
  });
