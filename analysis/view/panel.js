// Everything around the plots: pickers, the readout of the selected word, the map of heads, legends, the table.

function pickerOf(name, options, className) {
  const select = el("select", `lv-pick ${className}`, null, { "aria-label": name });
  for (const [value, text] of options) select.append(el("option", "", text, { value }));
  return select;
}

function checkOf(label, hint, checked) {
  const box = el("label", "lv-check", null, { title: hint });
  const input = el("input", "", null, { type: "checkbox" });
  input.checked = checked;
  box.append(input, el("span", "", label));
  return { box, input };
}

function buttonOf(text, className, title = "") {
  const button = el("button", `lv-button ${className}`, text, { type: "button" });
  if (title) button.title = title;
  return button;
}

function iconButton(symbol, className, name) {
  const button = buttonOf("", `lv-icon ${className}`, name);
  button.setAttribute("aria-label", name);
  button.append(el("span", "", symbol, { "aria-hidden": "true" }));
  return button;
}

function toolbarOf(payload, words) {
  const bar = el("div", "lv-bar");
  const heads = payload.heads_averaged ? [] : [...Array(payload.heads).keys()];
  const layer = pickerOf(words.layer, payload.layers.map((n) => [n, `${words.layer} ${n}`]), "lv-layer");
  const named = heads.map((n) => [n, `${words.head} ${fill(words.headNumber, { n })}`]);
  const head = pickerOf(words.head, [["mean", words.headMean], ...named], "lv-head");
  const best = buttonOf(words.best, "lv-best", words.bestHint);
  best.setAttribute("aria-pressed", "false");
  best.hidden = !payload.best.length;
  const whole = checkOf(words.words, words.wordsHint, true);
  const scaled = checkOf(words.scaleRows, words.scaleRowsHint, true);
  bar.append(layer, head, best, el("span", "lv-space"), whole.box, scaled.box);
  return { bar, layer, head, best, whole: whole.input, scaled: scaled.input };
}

// The selected word in large, and what was measured about it.
class Readout {
  constructor(words, onPlay) {
    this.words = words;
    this.node = el("section", "lv-card lv-readout");
    this.title = el("p", "lv-big");
    this.list = el("dl");
    this.play = buttonOf(words.playSpan, "lv-primary lv-play-span");
    this.play.addEventListener("click", onPlay);
    this.node.append(this.title, this.list, this.play);
    this.show(null);
  }

  show(chosen) {
    const { words } = this;
    this.node.classList.toggle("lv-blank", !chosen);
    this.title.textContent = chosen ? chosen.text : words.nothingSelected;
    this.play.hidden = !chosen || !chosen.look;
    this.list.replaceChildren();
    if (!chosen) {
      this.list.append(el("dd", "lv-hint", words.nothingSelectedMore));
      return;
    }
    const { look, probability, entropy } = chosen;
    if (look) {
      this.row(words.span, `${fixed(look.start)} – ${fixed(look.end)} ${words.seconds}`);
      this.row(words.centre, `${fixed(look.centre)} ${words.seconds}`);
      this.row(words.onSound, `${Math.round(100 * look.sound)} %`, look.sound);
    }
    if (probability !== null) this.row(words.probability, `${(100 * probability).toFixed(1)} %`, probability);
    if (entropy !== null) this.row(words.entropy, `${fixed(entropy)} ${words.nat}`);
  }

  row(name, value, share = null) {
    const cell = el("dd", "", value);
    if (share !== null) {
      cell.className = "lv-meter";
      cell.style.setProperty("--share", clamp(share, 0, 1).toFixed(3));
    }
    this.list.append(el("dt", "", name), cell);
  }
}

// Layers x heads by listening score; a second way to pick a head, for the eye and the mouse.
class HeadMap {
  constructor(payload, words, onPick) {
    this.payload = payload;
    this.node = el("section", "lv-card lv-heads");
    this.canvas = el("canvas", "", null, { "aria-hidden": "true" });
    this.chips = el("div", "lv-chips");
    this.node.append(el("h3", "", words.headMap, { title: words.headMapHint }), this.canvas, this.chips);
    this.buttons = payload.best.map(({ layer, head, score }) => {
      const name = head === null ? `L${layer}` : `L${layer} · H${head}`;
      const chip = buttonOf(name, "lv-chip", `${words.bestHint}: ${score}`);
      chip.addEventListener("click", () => onPick(layer, head));
      this.chips.append(chip);
      return chip;
    });
    this.canvas.addEventListener("click", (event) => {
      const box = this.canvas.getBoundingClientRect();
      const cell = (share, n) => clamp(Math.floor(share * n), 0, n - 1);
      const layer = payload.layers[cell((event.clientY - box.top) / box.height, payload.layers.length)];
      const head = cell((event.clientX - box.left) / box.width, payload.heads);
      onPick(layer, payload.heads_averaged ? null : head);
    });
  }

  paint(inks, layer, head) {
    const { layers, heads, scores, best } = this.payload;
    const cell = clamp(Math.min(200 / heads, 150 / layers.length), 4, 18);
    this.canvas.style.width = `${cell * heads}px`;
    const context = sized(this.canvas, cell * heads, cell * layers.length);
    const top = Math.max(0.05, ...scores.flat()); // heads that all follow nothing stay pale
    const gap = cell > 8 ? 1 : 0.5;
    scores.forEach((row, r) => row.forEach((score, h) => {
      const code = Math.round((255 * score) / top);
      context.fillStyle = `rgb(${inks.heat.subarray(4 * code, 4 * code + 3).join(",")})`;
      context.fillRect(h * cell, r * cell, cell - gap, cell - gap);
      context.strokeStyle = inks.line;
      context.lineWidth = 0.5;
      context.strokeRect(h * cell + 0.25, r * cell + 0.25, cell - gap - 0.5, cell - gap - 0.5);
    }));
    context.strokeStyle = inks.text;
    context.lineWidth = 2;
    const y = layers.indexOf(layer) * cell;
    const [x, width] = head === null ? [0, cell * heads] : [head * cell, cell];
    context.strokeRect(x + 1, y + 1, width - gap - 2, cell - gap - 2);
    this.buttons.forEach((chip, k) => {
      chip.setAttribute("aria-pressed", String(best[k].layer === layer && best[k].head === head));
    });
  }
}

function legendOf(words) {
  const legend = el("section", "lv-card lv-legend");
  const line = (low, className, high) => {
    const row = el("div", "lv-scale");
    row.append(el("span", "", low), el("i", className, null, { "aria-hidden": "true" }), el("span", "", high));
    return row;
  };
  legend.append(line(words.legendLittle, "lv-heat", words.legendMuch));
  legend.append(line(words.legendSure, "lv-doubt", words.legendUnsure));
  return legend;
}

// The heat map in words: where every token looks, for screen readers and for copying.
class Table {
  constructor(words) {
    this.words = words;
    this.node = el("details", "lv-table");
    this.body = el("div", "lv-scroll");
    this.node.append(el("summary", "", words.table), this.body);
  }

  fill(rows) {
    const { words } = this;
    const table = el("table");
    const head = table.createTHead().insertRow();
    const { tableToken, probability, entropy, span, centre, onSound } = words;
    for (const name of ["#", tableToken, probability, entropy, span, centre, onSound]) {
      head.append(el("th", "", name, { scope: "col" }));
    }
    const body = table.createTBody();
    rows.forEach(({ token, look }, index) => {
      const row = body.insertRow();
      row.append(el("td", "", index + 1), el("th", "", token.label, { scope: "row" }));
      row.append(el("td", "", token.logprob === null ? "" : Math.exp(token.logprob).toFixed(3)));
      row.append(el("td", "", token.entropy === null ? "" : fixed(token.entropy)));
      row.append(el("td", "", look ? `${fixed(look.start)} – ${fixed(look.end)} ${words.seconds}` : ""));
      row.append(el("td", "", look ? `${fixed(look.centre)} ${words.seconds}` : ""));
      row.append(el("td", "", look ? `${Math.round(100 * look.sound)} %` : ""));
    });
    this.body.replaceChildren(table);
  }
}

// What stands in the place of the view while there is nothing to see: what it is for, and how it is used.
function emptyState(words) {
  const box = el("div", "lv-empty");
  const art = el("div", "lv-art", null, { "aria-hidden": "true" });
  const heights = [3, 8, 16, 11, 22, 30, 18, 9, 5, 12, 26, 34, 24, 14, 8, 4, 10, 20, 28, 17, 9, 5, 3];
  heights.forEach((height, k) => {
    const bar = el("i", k > 8 && k < 15 ? "lv-bright" : "");
    bar.style.height = `${height}px`;
    art.append(bar);
  });
  const steps = el("ol");
  for (const step of ["empty1", "empty2", "empty3"]) {
    const item = el("li");
    item.append(el("strong", "", words[step]), el("span", "", words[`${step}More`]));
    steps.append(item);
  }
  box.append(art, el("h3", "", words.emptyTitle), steps);
  return box;
}
