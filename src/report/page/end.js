
  // #gene=NAME and #filter=TEXT.
  function fragment() {
    const parts = new URLSearchParams(location.hash.slice(1));
    const text = parts.get("filter"), name = parts.get("gene");
    if (text !== null) { clear(); filter.value = text; select(); at("links").scrollIntoView(); }
    if (name !== null) {
      input.value = name;
      suggest.replaceChildren();
      if (!drawGene(name)) showSuggestions(name);
      at("gene").scrollIntoView();
    }
  }
  select();
  drawTops();
  // At first the gene with most links that count.
  const of = new Uint32Array(genes.name.length);
  let first = n ? L.gene[0] : -1;
  for (let i = 0; i < n; i++) if (counts(i) && ++of[L.gene[i]] > of[first]) first = L.gene[i];
  if (first >= 0) drawGene(genes.name[first]);
  addEventListener("hashchange", fragment);
  fragment();
  Object.assign(hooks, { drawGene, csv, select, clear });
})();
