// The spoken view: what a model says as words, speech codes, mel and sound on one time axis, while it is being said.

const SPOKEN_LABELS = {
  spokenPlot: "Words, speech codes, mel and sound on one time axis: {n} codes, {seconds} s",
  spokenWords: "words",
  spokenCodes: "codes",
  spokenMel: "mel",
  spokenWave: "sound",
  spokenCode: "code {code}",
  seconds: "s",
};
const CODES_PER_S = 25;
const SPOKEN_ROWS = { words: 20, codes: 48, mel: 88, wave: 64 };
const DIGIT_SHADES = [40, 135, 230]; // of the three values that a digit of a code can have

function mountSpoken(root, options = {}) {
  root.classList.add("lv");
  const view = new SpokenView(root, { ...SPOKEN_LABELS, ...(options.labels || {}) }, options.onSeek || (() => {}));
  return {
    update: (shown) => view.update(shown),
    playhead: (time) => view.mark(time),
    destroy: () => view.close(),
  };
}

class SpokenView {
  constructor(root, words, onSeek) {
    Object.assign(this, { root, words, onSeek });
    this.base = el("canvas", "lv-base", null, { "aria-hidden": "true" });
    this.over = el("canvas", "lv-over", null, { role: "img" });
    this.hover = el("div", "lv-hover", "", { "aria-hidden": "true" });
    this.plot = el("div", "lv-plot lv-spoken");
    this.plot.append(this.base, this.over, this.hover);
    root.replaceChildren(this.plot);
    this.playhead = null;
    this.pointer = null;
    this.unfollow = followTheme(root, () => this.repaint());
    this.sizes = new ResizeObserver(() => this.repaint());
    this.sizes.observe(this.plot);
    this.over.addEventListener("pointermove", (event) => this.hoverAt(event));
    this.over.addEventListener("pointerleave", () => this.hoverAt(null));
    this.over.addEventListener("click", (event) => this.rects && this.onSeek(this.timeOf(event)));
    this.update(null);
  }

  close() {
    this.unfollow();
    this.sizes.disconnect();
    this.root.replaceChildren();
  }

  // {codes, digits, words: [[text, number of codes before it]], samples Int16Array, rate, mel | null}
  update(shown) {
    this.shown = shown && shown.codes.length ? shown : null;
    this.plot.hidden = !this.shown;
    this.root.dataset.codes = this.shown ? this.shown.codes.length : 0;
    this.root.dataset.mel = Boolean(this.shown && this.shown.mel);
    if (!this.shown) return;
    const { codes, samples, rate } = this.shown;
    const duration_s = samples.length / rate;
    this.sound = { ...levelsOf(samples), rate, offset_s: 0, duration_s };
    this.scale = new TimeScale(Math.max(codes.length / CODES_PER_S, duration_s));
    const seconds = fixed(this.scale.duration, 1);
    this.over.setAttribute("aria-label", fill(this.words.spokenPlot, { n: codes.length, seconds }));
    this.repaint();
  }

  mark(time) {
    if (this.playhead === time) return;
    this.playhead = time;
    this.paintOver();
  }

  // --- painting -------------------------------------------------------------------------------------------------

  layout(width) {
    const gutter = width < 560 ? 46 : 64;
    const rects = {};
    let y = 0;
    for (const [name, height] of Object.entries(SPOKEN_ROWS)) {
      rects[name] = { x: gutter, y, width: width - gutter, height };
      y += height + 6;
    }
    rects.axis = { x: gutter, y, width: width - gutter, height: 24 };
    return { rects, height: y + 24 };
  }

  repaint() {
    const width = this.plot.clientWidth;
    if (!this.shown || !width) return;
    const { rects, height } = this.layout(width);
    const inks = inksOf(this.root);
    const context = sized(this.base, width, height);
    const { scale, words } = this;
    Object.assign(this, { rects, height, inks });
    context.fillStyle = inks.panel;
    for (const name of ["codes", "mel", "wave"]) {
      context.fillRect(rects[name].x, rects[name].y, rects[name].width, rects[name].height);
    }
    this.paintWords(context, rects.words);
    this.paintCodes(context, rects.codes);
    this.paintMel(context, rects.mel);
    clipped(context, rects.wave, () => drawWave(context, rects.wave, scale, this.sound, inks.trace));
    drawAxis(context, rects.axis, scale, inks, words.seconds);
    context.font = inks.font(11);
    context.fillStyle = inks.muted;
    const names = { words: "spokenWords", codes: "spokenCodes", mel: "spokenMel", wave: "spokenWave" };
    for (const [row, key] of Object.entries(names)) {
      drawLabel(context, words[key], rects[row].x - 8, rects[row].y + rects[row].height / 2, rects[row].x - 10);
    }
    this.paintOver();
  }

  // A word stands where it was written: before the codes that came with it. Where there is no room only a tick is left.
  paintWords(context, rect) {
    const { scale, inks, shown } = this;
    context.font = inks.font(12);
    context.textAlign = "left";
    context.textBaseline = "middle";
    let free = rect.x - 1;
    for (const [text, place] of shown.words) {
      const x = scale.x(place / CODES_PER_S, rect);
      context.fillStyle = inks.muted;
      context.fillRect(x, rect.y + rect.height - 4, 1, 4);
      const label = text.trim();
      const room = context.measureText(label).width;
      if (x < free || x + room > rect.x + rect.width) continue;
      context.fillStyle = inks.text;
      context.fillText(label, x, rect.y + rect.height / 2 - 2);
      free = x + room + 6;
    }
  }

  // A code is a column of its digits to base 3, the way the tokenizer rounds: the first digit at the bottom.
  paintCodes(context, rect) {
    const { codes, digits } = this.shown;
    const cells = new Uint8Array(codes.length * digits);
    codes.forEach((code, k) => {
      let rest = code;
      for (let d = 0; d < digits; d += 1) {
        cells[(digits - 1 - d) * codes.length + k] = DIGIT_SHADES[rest % 3];
        rest = Math.floor(rest / 3);
      }
    });
    this.image(context, rect, imageOf(cells, codes.length, digits, this.inks.loud), codes.length / CODES_PER_S, false);
  }

  paintMel(context, rect) {
    const { mel } = this.shown;
    if (!mel) return;
    this.image(context, rect, melImage({ ...mel, codes: bytesOf(mel.codes) }, this.inks.loud), mel.columns * mel.column_s, true);
  }

  image(context, rect, picture, end_s, smooth) {
    context.imageSmoothingEnabled = smooth;
    const right = this.scale.x(end_s, rect);
    clipped(context, rect, () => context.drawImage(picture, rect.x, rect.y, right - rect.x, rect.height));
    context.imageSmoothingEnabled = true;
  }

  paintOver() {
    if (!this.rects || !this.shown) return;
    const { rects, height, scale, inks, pointer, playhead } = this;
    const context = sized(this.over, this.plot.clientWidth, height);
    const line = (time, colour, width) => {
      context.fillStyle = colour;
      context.fillRect(scale.x(time, rects.wave) - width / 2, rects.codes.y, width, rects.axis.y - rects.codes.y);
    };
    if (pointer !== null) line(pointer, inks.muted, 1);
    if (playhead !== null && playhead > 0) line(playhead, inks.accent, 2);
  }

  // --- pointer ----------------------------------------------------------------------------------------------------

  timeOf(event) {
    return this.scale.time(event.clientX - this.over.getBoundingClientRect().left, this.rects.wave);
  }

  hoverAt(event) {
    if (!this.rects || !this.shown) return;
    this.pointer = event ? this.timeOf(event) : null;
    const code = event && this.shown.codes[Math.floor(this.pointer * CODES_PER_S)];
    const named = code === undefined || code === null ? "" : `   ${fill(this.words.spokenCode, { code })}`;
    this.hover.textContent = event ? `${fixed(this.pointer)} ${this.words.seconds}${named}` : "";
    this.paintOver();
  }
}
