
  // Tops of a cell type.
  const pick = at("type-pick");
  D.maps.forEach((m, i) => pick.appendChild(el("option", i === 0 ? "all cells" : m.name, { value: i })));
  function bars(id, rows, name, draw) {
    const most = rows.reduce((m, r) => Math.max(m, r[1]), 0) || 1;
    const t = sortable(at(id), [[name, null, true], [D.maps[Number(pick.value)].unit || "attention a cell"], [""]], {}, () => {});
    t.fill(rows.map(([what, value]) => {
      const tr = el("tr"), first = el("td", null, { class: "left" }), bar = el("td", null, { class: "bars" }), fill = el("div", null, { class: "bar" });
      first.appendChild(draw(what));
      fill.style.width = (100 * value) / most + "%";
      bar.appendChild(fill);
      tr.append(first, el("td", brief(value)), bar);
      return tr;
    }));
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
