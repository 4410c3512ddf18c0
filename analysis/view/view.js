// The linked view: one turn, seen as sound, spectrogram, attention and words at once; each picks out the others.

const ROW = { wave: 84, mel: 84, axis: 24, gap: 8, top: 22 };

// What the root element publishes as data-*, for tests and for style.
const STATE = ["state", "layer", "head", "selected", "brush", "lit", "view", "played", "playing", "ended", "busy"];

function mount(root, first, options = {}) {
  const words = { ...LABELS, ...(options.labels || {}) };
  let shown = null; // the view of the present payload
  root.classList.add("lv");

  const unfollow = followTheme(root, () => shown && shown.recolour());
  const update = (payload) => {
    const before = shown && shown.memory();
    if (shown) shown.close();
    shown = null;
    for (const name of STATE) delete root.dataset[name];
    if (!payload || !payload.tokens || !payload.clips || !payload.clips.length) {
      root.replaceChildren(emptyState(words));
      root.dataset.state = "empty";
      return;
    }
    shown = new LinkedView(root, payload, words, options, before);
    root.dataset.state = "ready";
  };
  update(first);
  return {
    update,
    select: (index) => shown && shown.select(index),
    destroy: () => {
      unfollow();
      if (shown) shown.close();
      root.replaceChildren();
      for (const name of STATE) delete root.dataset[name];
    },
  };
}

// Keep `data-theme` of a view that of the page around it; `changed` runs after it was another. Returns how to stop.
function followTheme(root, changed) {
  const theme = () => {
    const found = isDark(root) ? "dark" : "light";
    if (root.dataset.theme === found) return;
    root.dataset.theme = found;
    changed();
  };
  const watcher = new MutationObserver(() => requestAnimationFrame(theme));
  for (const node of [document.documentElement, document.body]) {
    watcher.observe(node, { attributes: true, attributeFilter: ["class", "style", "data-theme"] });
  }
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", theme);
  theme();
  return () => {
    watcher.disconnect();
    scheme.removeEventListener("change", theme);
  };
}

// Dark or light, by the first ground behind the view that is painted; so every host page is followed.
function isDark(root) {
  for (let node = root.parentElement; node; node = node.parentElement) {
    const parts = getComputedStyle(node).backgroundColor.match(/[\d.]+/g);
    const [r, g, b, alpha = 1] = (parts || [0, 0, 0, 0]).map(Number);
    if (alpha > 0.5) return 0.2126 * r + 0.7152 * g + 0.0722 * b < 110;
  }
  return window.matchMedia("(prefers-color-scheme: dark)").matches;
}

class LinkedView {
  constructor(root, payload, words, options, before) {
    Object.assign(this, { root, payload, words, options });
    this.frames = framesOf(payload);
    this.runs = frameRuns(this.frames);
    this.sounds = payload.clips.map(soundOf);
    this.scale = new TimeScale(payload.duration_s);
    this.attention = new Attention(payload, options.fetchLayer);
    this.player = new Player(this.sounds, payload.duration_s);
    this.selected = -1;
    this.brush = null;
    this.playhead = null;
    this.build();
    this.listen();
    this.recolour();
    const keep = before && payload.layers.includes(before.layer) && before.head < payload.heads; // null < n holds
    const { layer, head } = keep ? before : payload.start;
    this.say(payload.layers.length ? words.ready : words.noAttention);
    if (payload.layers.length) this.pick(layer, head);
    else this.repaint();
  }

  memory() {
    return this.layer === undefined ? null : { layer: this.layer, head: this.head };
  }

  // --- elements -----------------------------------------------------------------------------------------------

  build() {
    const { payload, words } = this;
    this.tools = toolbarOf(payload, words);
    this.tools.bar.hidden = !payload.layers.length;
    this.strip = new Strip(payload.tokens, words.tokens, (index) => this.select(index, true));
    this.base = el("canvas", "lv-base", null, { "aria-hidden": "true" });
    const spoken = { tabindex: "0", role: "img", "aria-label": `${words.plot}. ${words.plotKeys}` };
    this.over = el("canvas", "lv-over", null, spoken);
    this.hover = el("div", "lv-hover", "", { "aria-hidden": "true" });
    this.plot = el("div", "lv-plot");
    this.plot.append(this.base, this.over, this.hover);
    this.overview = el("canvas", "lv-overview", null, { "aria-hidden": "true", title: words.overview });
    this.playButton = buttonOf(words.play, "lv-play");
    const transport = el("div", "lv-transport");
    this.zoomers = [
      iconButton("−", "lv-zoom-out", words.zoomOut),
      iconButton("+", "lv-zoom-in", words.zoomIn),
      iconButton("⤢", "lv-fit", words.fit),
    ];
    transport.append(this.playButton, this.overview, ...this.zoomers);
    this.readout = new Readout(words, () => this.playSelection());
    this.heads = new HeadMap(payload, words, (layer, head) => this.pick(layer, head));
    this.table = new Table(words);
    this.status = el("p", "lv-status", "", { role: "status" });

    const left = el("div", "lv-left");
    left.append(this.strip.node, this.plot, transport, this.status);
    const side = el("div", "lv-side");
    side.append(this.readout.node);
    if (payload.layers.length) side.append(this.heads.node, legendOf(words));
    const main = el("div", "lv-main");
    main.append(left, side);
    const body = el("div", "lv-body");
    body.append(this.tools.bar, main, this.table.node);
    this.root.replaceChildren(body);
    this.sizes = new ResizeObserver(() => this.repaint());
    this.sizes.observe(this.plot);
  }

  listen() {
    const { tools } = this;
    tools.layer.addEventListener("change", () => this.pick(Number(tools.layer.value), this.head));
    const headPicked = () => (tools.head.value === "mean" ? null : Number(tools.head.value));
    tools.head.addEventListener("change", () => this.pick(this.layer, headPicked()));
    tools.best.addEventListener("click", () => this.pick(this.payload.best[0].layer, this.payload.best[0].head));
    tools.whole.addEventListener("change", () => this.refresh());
    tools.scaled.addEventListener("change", () => this.refresh());
    this.playButton.addEventListener("click", () => this.toggle());
    const [out, into, fit] = this.zoomers;
    out.addEventListener("click", () => this.rescale(() => this.scale.zoom(1 / 1.6)));
    into.addEventListener("click", () => this.rescale(() => this.scale.zoom(1.6, this.focusTime())));
    fit.addEventListener("click", () => this.rescale(() => this.scale.fit()));
    this.table.node.addEventListener("toggle", () => this.fillTable());
    this.onKey = (event) => this.key(event);
    this.root.addEventListener("keydown", this.onKey);
    listenPlot(this);
    listenOverview(this);
  }

  close() {
    this.closed = true;
    this.player.close();
    this.sizes.disconnect();
    this.root.removeEventListener("keydown", this.onKey);
    cancelAnimationFrame(this.pending);
  }

  say(text) {
    this.status.textContent = text;
  }

  // --- what is looked at --------------------------------------------------------------------------------------

  async pick(layer, picked) {
    const head = this.payload.heads_averaged ? null : picked;
    const ticket = (this.ticket = {});
    if (!this.attention.layers.has(layer)) {
      this.root.dataset.busy = "true";
      this.say(fill(this.words.loading, { layer }));
    }
    try {
      await this.attention.load(layer);
    } catch (error) {
      if (this.ticket !== ticket || this.closed) return;
      delete this.root.dataset.busy;
      this.say(fill(this.words.failed, { layer, error: error.message }));
      if (this.layer !== undefined) this.tools.layer.value = this.layer;
      return;
    }
    if (this.ticket !== ticket || this.closed) return;
    const waited = this.root.dataset.busy;
    delete this.root.dataset.busy;
    [this.layer, this.head] = [layer, head];
    this.root.dataset.layer = layer;
    this.root.dataset.head = head === null ? "mean" : head;
    this.tools.layer.value = layer;
    this.tools.head.value = head === null ? "mean" : head;
    const [best] = this.payload.best;
    this.tools.best.setAttribute("aria-pressed", String(Boolean(best && best.layer === layer && best.head === head)));
    if (waited) this.say(this.words.ready);
    this.refresh();
  }

  get map() {
    return this.layer === undefined ? null : this.attention.map(this.layer, this.head);
  }

  // The tokens that are read together with one: its word, or only itself.
  together(index) {
    const token = this.payload.tokens[index];
    return this.tools.whole.checked && token.word >= 0 ? this.payload.words[token.word].tokens : [index];
  }

  rowOf(index) {
    return sumRows(this.map, this.frames.n, this.together(index));
  }

  lookOf(index) {
    return this.map && lookOf(this.rowOf(index), this.frames, this.together(index).length);
  }

  // After another layer, head or reading: everything that depends on attention is worked out again.
  refresh() {
    this.heat = null;
    if (this.brush) this.lightBrush();
    if (this.selected >= 0) this.describe();
    if (this.table.node.open) this.fillTable();
    this.repaint();
  }

  fillTable() {
    if (!this.table.node.open) return;
    const look = (index) => this.map && lookOf(sumRows(this.map, this.frames.n, [index]), this.frames);
    this.table.fill(this.payload.tokens.map((token, index) => ({ token, look: look(index) })));
  }

  select(index, play = false) {
    if (!(index >= 0 && index < this.payload.tokens.length)) return;
    this.clearBrush();
    this.selected = index;
    this.root.dataset.selected = index;
    this.strip.mark(index, this.together(index));
    const chosen = this.describe();
    if (chosen.look) this.scale.reveal(chosen.look.start, chosen.look.end);
    if (this.options.onSelect) this.options.onSelect(chosen.report);
    if (play) this.playSelection();
    this.repaint();
  }

  // Write down what is known about the selected token.
  describe() {
    const { words, payload } = this;
    const token = payload.tokens[this.selected];
    const group = this.together(this.selected);
    const text = group.length > 1 ? payload.words[token.word].text : token.label;
    const look = this.lookOf(this.selected);
    const logprobs = group.map((k) => payload.tokens[k].logprob);
    const probability = logprobs.includes(null) ? null : Math.exp(logprobs.reduce((all, value) => all + value, 0));
    const source = { layer: this.layer, head: this.head, run: payload.id };
    const report = { index: this.selected, value: token.text, word: text, ...source, ...(look || {}) };
    const chosen = { text, look, probability, entropy: token.entropy, report };
    this.strip.mark(this.selected, group);
    this.readout.show(chosen);
    const times = look && { text, start: fixed(look.start), end: fixed(look.end), centre: fixed(look.centre) };
    if (payload.layers.length) this.say(look ? fill(words.selected, times) : fill(words.selectedBlank, { text }));
    return chosen;
  }

  clear() {
    this.player.stop();
    this.clearBrush();
    this.selected = -1;
    delete this.root.dataset.selected;
    this.strip.mark(-1, []);
    this.readout.show(null);
    this.say(this.payload.layers.length ? this.words.ready : this.words.noAttention);
    this.repaint();
  }

  // --- a stretch of the sound ---------------------------------------------------------------------------------

  setBrush(start, end) {
    this.brush = { start, end };
    this.root.dataset.brush = `${fixed(start)}-${fixed(end)}`;
    this.lightBrush();
    this.repaint();
  }

  // Light up the tokens that look into the stretch more than an even look would.
  lightBrush() {
    if (!this.map) return;
    const { start, end } = this.brush;
    const { tokens } = this.payload;
    const even = shareInside(new Float32Array(this.frames.n).fill(1), this.frames, start, end);
    const shares = tokens.map((token, k) => (!isWord(token) ? 0 : shareInside(this.rowOf(k), this.frames, start, end)));
    const top = Math.max(...shares, 0);
    const levels = shares.map((share) => (share > 1.5 * even && share >= 0.4 * top ? share / top : 0));
    this.strip.light(levels);
    this.lit = levels;
    const order = [...levels.keys()].filter((k) => levels[k] > 0).sort((a, b) => levels[b] - levels[a]);
    this.root.dataset.lit = order.join(" ");
    const named = new Map(order.map((k) => [this.together(k)[0], k]));
    const item = (k) => fill(this.words.listItem, { text: this.nameOf(k), share: Math.round(100 * shares[k]) });
    const list = [...named.values()].slice(0, 3).map(item).join(", ");
    this.say(fill(list ? this.words.brushed : this.words.brushedNone, { start: fixed(start), end: fixed(end), list }));
    this.stretch = { start, end, tokens: order, layer: this.layer, head: this.head, run: this.payload.id };
  }

  nameOf(index) {
    const token = this.payload.tokens[index];
    return this.together(index).length > 1 ? this.payload.words[token.word].text : token.label;
  }

  clearBrush() {
    this.brush = null;
    this.lit = null;
    delete this.root.dataset.brush;
    delete this.root.dataset.lit;
    this.strip.light(null);
  }

  // --- sound --------------------------------------------------------------------------------------------------

  playSelection() {
    const look = this.selected >= 0 ? this.lookOf(this.selected) : null;
    if (look) this.play(look.start, look.end, false);
  }

  // Space and the button: stop what plays, else play the stretch, the selected word, or everything in view.
  toggle() {
    if (this.player.playing) this.player.stop();
    else if (this.brush) this.play(this.brush.start, this.brush.end, true);
    else if (this.selected >= 0 && this.lookOf(this.selected)) this.playSelection();
    else this.play(this.scale.start, this.scale.end, true);
  }

  play(start, end, follow) {
    this.player.play(
      start,
      end,
      (time) => {
        this.playhead = time;
        if (follow && this.map) this.strip.follow(this.heardAt(time));
        this.paintOver();
      },
      (finished) => {
        this.playhead = null;
        this.root.dataset.playing = "false";
        if (finished) this.root.dataset.ended = `${fixed(start)}-${fixed(end)}`;
        this.playButton.textContent = this.words.play;
        this.strip.follow([]);
        if (!this.closed) this.paintOver();
      },
    );
    this.root.dataset.playing = "true";
    this.root.dataset.played = `${fixed(start)}-${fixed(end)}`;
    this.playButton.textContent = this.words.stop;
  }

  // The tokens whose moment this is.
  heardAt(time) {
    if (!this.moments || this.moments.map !== this.map) {
      const looks = this.payload.tokens.map((token, k) => (isWord(token) ? this.lookOf(k) : null));
      this.moments = { map: this.map, looks };
    }
    return this.moments.looks.flatMap((look, k) => (look && look.start <= time && time <= look.end ? [k] : []));
  }

  // --- keys and zoom ------------------------------------------------------------------------------------------

  key(event) {
    const inField = event.target.closest("select, input, summary, table");
    if (event.ctrlKey || event.metaKey || event.altKey || (inField && event.key !== "Escape")) return;
    const onButton = event.target.closest("button:not(.lv-token)");
    const last = this.payload.tokens.length - 1;
    const move = (index) => {
      this.select(clamp(index, 0, last));
      this.strip.buttons[this.selected].focus({ preventScroll: true });
      this.strip.buttons[this.selected].scrollIntoView({ block: "nearest" });
    };
    const act = {
      ArrowRight: () => move(this.selected + 1),
      ArrowLeft: () => move(this.selected < 0 ? last : this.selected - 1),
      Home: () => move(0),
      End: () => move(last),
      Escape: () => this.clear(),
      "+": () => this.rescale(() => this.scale.zoom(1.6, this.focusTime())),
      "=": () => this.rescale(() => this.scale.zoom(1.6, this.focusTime())),
      "-": () => this.rescale(() => this.scale.zoom(1 / 1.6, this.focusTime())),
      0: () => this.rescale(() => this.scale.fit()),
      ...(onButton ? {} : { " ": () => this.toggle() }),
    }[event.key];
    if (!act || last < 0) return;
    event.preventDefault();
    act();
  }

  focusTime() {
    const look = this.selected >= 0 ? this.lookOf(this.selected) : null;
    if (this.brush) return (this.brush.start + this.brush.end) / 2;
    return look ? clamp(look.centre, this.scale.start, this.scale.end) : undefined;
  }

  rescale(change) {
    change();
    this.root.dataset.view = `${fixed(this.scale.start)}-${fixed(this.scale.end)}`;
    this.repaint();
  }

  // --- painting -----------------------------------------------------------------------------------------------

  recolour() {
    this.inks = inksOf(this.root);
    this.mels = this.sounds.map((sound) => melImage(sound.mel, this.inks.loud));
    this.heat = null;
    this.repaint();
  }

  repaint() {
    cancelAnimationFrame(this.pending);
    this.pending = requestAnimationFrame(() => {
      if (this.closed || !this.plot.clientWidth) return;
      this.paintBase();
      this.paintOver();
      paintOverview(this);
      if (this.layer !== undefined) this.heads.paint(this.inks, this.layer, this.head);
    });
  }

  // Where every row is, in CSS pixels.
  layout() {
    const width = this.plot.clientWidth;
    const small = width < 560;
    const x = small ? 60 : 76;
    const column = { x, width: Math.max(40, width - x - 1) };
    const n = this.payload.layers.length ? this.payload.tokens.length : 0;
    const rowHeight = n ? Math.min(420 / n, small ? 15 : 17) : 0;
    const wave = { ...column, y: ROW.top, height: small ? 64 : ROW.wave };
    const mel = { ...column, y: wave.y + wave.height + 2, height: small ? 60 : ROW.mel };
    const heat = { ...column, y: mel.y + mel.height + ROW.gap, height: rowHeight * n };
    const axis = { ...column, y: heat.y + heat.height + 1, height: ROW.axis };
    return { width, height: axis.y + axis.height, wave, mel, heat, axis, rowHeight };
  }

  paintBase() {
    this.rects = this.layout();
    paintPlot(this, sized(this.base, this.rects.width, this.rects.height), this.rects);
  }

  paintOver() {
    if (!this.rects) return;
    paintMarks(this, sized(this.over, this.rects.width, this.rects.height), this.rects);
  }
}
