
  // Cells in a plane.
  function plane(E) {
    const canvas = at("plane"), legend = at("legend"), pick = at("plane-colour");
    const x = u16(E.x), y = u16(E.y), n = x.length;
    // Drawn in a scattered order, so that no kind lies on top.
    const order = Array.from(x, (_, i) => i);
    order.sort((a, b) => ((a * 2654435761) >>> 0) - ((b * 2654435761) >>> 0));
    let only = -1, now = null;
    const kinds = E.columns.map((c) => ({ kind: true, name: c.name, labels: c.labels, codes: (c.wide ? u16 : u8)(c.codes) }));
    const number = (g) => ({ kind: false, name: g.name, unit: g.unit, high: g.high, found: g.found, packed: u8(g.levels) });
    const choices = [];
    function group(title, list) {
      if (!list.length) return;
      const g = el("optgroup", null, { label: title });
      list.forEach((c) => { g.appendChild(el("option", c.name, { value: choices.length })); choices.push(c); });
      pick.appendChild(g);
    }
    group("cells", kinds.concat(E.counts.map(number)));
    group("genes", E.genes.map(number));
    const level = (c, i) => (c.packed[i >> 1] >> (i & 1 ? 4 : 0)) & 15;
    const shade = (l) => (l === 0 ? css("--faint") : ramp(0.1 + (0.9 * l) / 15));
    // The nearest free place around a point.
    function free(taken, mx, my, half, bounds) {
      for (let i = 0; i < 400; i++) {
        const turn = i * 0.42, r = 0.7 * i;
        const cx = Math.max(bounds[0] + half, Math.min(bounds[1] - half, mx + 1.6 * r * Math.cos(turn)));
        const cy = Math.max(bounds[2] + 14, Math.min(bounds[3] - 4, my + r * Math.sin(turn)));
        const b = [cx - half, cy - 14, cx + half, cy + 4];
        if (!taken.some((t) => b[0] < t[2] && b[2] > t[0] && b[1] < t[3] && b[3] > t[1])) { taken.push(b); return [cx, cy]; }
      }
      return [mx, my];
    }
    function draw() {
      const ratio = window.devicePixelRatio || 1, w = canvas.clientWidth || 900, h = Math.round(w * 0.8);
      canvas.width = w * ratio;
      canvas.height = h * ratio;
      canvas.style.height = h + "px";
      const c = canvas.getContext("2d");
      c.setTransform(ratio, 0, 0, ratio, 0, 0);
      c.clearRect(0, 0, w, h);
      const px = (v) => 8 + (v / 65535) * (w - 16), py = (v) => h - 8 - (v / 65535) * (h - 16);
      const r = Math.max(1.2, Math.min(4.2, (230 / Math.sqrt(n)) * Math.min(1, w / 700)));
      if (!now) { c.fillStyle = css("--link"); order.forEach((i) => mark(c, "disc", px(x[i]), py(y[i]), r)); return; }
      if (now.kind) {
        const inks = now.labels.map((t) => ink(t.colour)), none = css("--muted");
        if (only >= 0) {
          c.fillStyle = css("--faint");
          for (const i of order) if (now.codes[i] !== only) mark(c, "disc", px(x[i]), py(y[i]), r * 0.8);
        }
        c.globalAlpha = 0.8;
        for (const i of order) {
          const k = now.codes[i];
          if (only >= 0 && k !== only) continue;
          const t = now.labels[k];
          c.fillStyle = t ? inks[k] : none;
          mark(c, t ? t.shape : "disc", px(x[i]), py(y[i]), r);
        }
        c.globalAlpha = 1;
        if (only < 0 && now === kinds[0] && now.labels.length <= 40) names(c, px, py, w, h);
      } else {
        const shades = Array.from({ length: 16 }, (_, l) => shade(l));
        for (let l = 0; l < 16; l++) {
          c.fillStyle = shades[l];
          for (const i of order) if (level(now, i) === l) mark(c, "disc", px(x[i]), py(y[i]), r);
        }
      }
    }
    function names(c, px, py, w, h) {
      const size = w < 500 ? 12 : 14;
      c.font = `600 ${size}px system-ui, sans-serif`;
      c.lineWidth = 3.5;
      c.lineJoin = "round";
      c.textAlign = "center";
      c.strokeStyle = css("--card");
      c.fillStyle = css("--ink");
      const taken = [];
      now.labels.slice().sort((a, b) => b.count - a.count).forEach((t) => {
        if (!t.count) return;
        const text = t.name.length > 28 ? t.name.slice(0, 27) + "…" : t.name;
        const [mx, my] = free(taken, px(t.middle[0]), py(t.middle[1]), c.measureText(text).width / 2 + 2, [0, w, 0, h]);
        c.strokeText(text, mx, my);
        c.fillText(text, mx, my);
      });
    }
    function list() {
      legend.replaceChildren();
      canvas.setAttribute("aria-label", `${whole(n)} cells in the plane, coloured by ${now ? now.name : "nothing"}`);
      if (!now) return;
      if (!now.kind) {
        const bar = svg("svg", { viewBox: "0 0 160 12", width: 160, height: 12, class: "ramp", "aria-hidden": "true" });
        for (let l = 1; l < 16; l++) bar.appendChild(svg("rect", { x: ((l - 1) * 160) / 15, y: 0, width: 11, height: 12, fill: shade(l) }));
        legend.append(el("p", now.unit), bar, el("p", `above 0 to ${brief(now.high)} and more`, { class: "note" }),
          el("p", `above 0 in ${whole(now.found)} of ${whole(n)} cells; grey where it is none`, { class: "note" }));
        return;
      }
      now.labels.forEach((t, i) => {
        if (!t.count) return;
        const b = el("button", null, { type: "button", "aria-pressed": String(i === only) });
        const s = svg("svg", { width: 14, height: 14, viewBox: "-1.5 -1.5 3 3", "aria-hidden": "true" });
        const corners = CORNERS[t.shape], fill = t.colour === "ink" ? "var(--ink)" : t.colour;
        s.appendChild(corners ? svg("polygon", { points: corners.map((p) => p.join(",")).join(" "), fill }) : svg("circle", { r: 1.1, fill }));
        b.append(s, el("span", t.name), el("span", whole(t.count), { class: "count" }));
        b.addEventListener("click", () => {
          only = only === i ? -1 : i;
          legend.querySelectorAll("button").forEach((o) => o.setAttribute("aria-pressed", String(o === b && only === i)));
          draw();
        });
        legend.appendChild(b);
      });
    }
    function show(k) {
      now = choices[k] || null;
      only = -1;
      pick.value = String(k);
      list();
      draw();
    }
    pick.addEventListener("change", () => show(Number(pick.value)));
    // By name: a column, or a gene that is among those of the page.
    hooks.colourBy = (name) => {
      const k = choices.findIndex((c) => c.name.toLowerCase() === name.toLowerCase());
      if (k >= 0) show(k);
      return k >= 0;
    };
    show(0);
    // #colour=NAME.
    const asked = () => {
      const name = new URLSearchParams(location.hash.slice(1)).get("colour");
      if (name !== null && hooks.colourBy(name)) at("cells").scrollIntoView();
    };
    addEventListener("hashchange", asked);
    asked();
    addEventListener("resize", draw);
    dark.addEventListener("change", () => { list(); draw(); });
  }
  if (D.embedding) plane(D.embedding);
