// The plot: what is painted into it, and what the pointer does in it.

function paintPlot(view, context, { wave, mel, heat, axis, rowHeight }) {
  const { inks, scale, sounds, frames, words } = view;
  context.fillStyle = inks.panel;
  for (const rect of [wave, mel, heat]) context.fillRect(rect.x, rect.y, rect.width, rect.height);
  for (const [k, sound] of sounds.entries()) {
    clipped(context, mel, () => {
      const left = scale.x(sound.offset_s, mel);
      const right = scale.x(sound.offset_s + sound.mel.columns * sound.mel.column_s, mel);
      if (sound.mel.columns) context.drawImage(view.mels[k], left, mel.y, right - left, mel.height);
    });
    clipped(context, wave, () => drawWave(context, wave, scale, sound, inks.trace));
  }
  if (view.map && view.selected >= 0) paintLooked(view, context, wave, mel);
  if (view.map && heat.height) {
    if (!view.heat) {
      const codes = heatCodes(view.map, view.payload.tokens.length, frames.n, view.tools.scaled.checked);
      view.heat = imageOf(codes, frames.n, view.payload.tokens.length, inks.heat);
    }
    clipped(context, heat, () => drawHeat(context, heat, scale, view.heat, frames, view.runs));
    paintTokenLabels(view, context, heat, rowHeight);
  }
  drawAxis(context, axis, scale, inks, words.seconds);
  context.font = inks.font(11);
  context.fillStyle = inks.muted;
  drawLabel(context, words.wave, wave.x - 8, wave.y + wave.height / 2, wave.x - 10);
  drawLabel(context, words.mel, mel.x - 8, mel.y + mel.height / 2, mel.x - 10);
}

// The selected word over the sound: what it looks at comes forward in the accent colour.
function paintLooked(view, context, wave, mel) {
  const { inks, scale, sounds, frames } = view;
  const row = view.rowOf(view.selected);
  drawLooked(context, wave, scale, row, frames, (strength) => {
    context.globalAlpha = 0.25 + 0.75 * strength;
    for (const sound of sounds) drawWave(context, wave, scale, sound, inks.accent);
  });
  drawLooked(context, mel, scale, row, frames, (strength, x, width) => {
    context.globalAlpha = 0.38 * strength;
    context.fillStyle = inks.accent;
    context.fillRect(x, mel.y, width, mel.height);
  });
}

function paintTokenLabels(view, context, heat, rowHeight) {
  const { inks, payload } = view;
  const group = view.selected >= 0 ? view.together(view.selected) : [];
  payload.tokens.forEach((token, index) => {
    const chosen = group.includes(index);
    const lit = Boolean(view.lit && view.lit[index] > 0);
    if (rowHeight < 10 && !chosen) return;
    context.font = inks.font(clamp(rowHeight - 4, 9, 12), chosen || lit ? 600 : 400);
    context.fillStyle = chosen || lit ? inks.accent : isQuiet(token) ? inks.muted : inks.text;
    drawLabel(context, token.label, heat.x - 8, heat.y + (index + 0.5) * rowHeight, heat.x - 10);
  });
}

// What moves: span, selected rows, brush, pointer, playhead.
function paintMarks(view, context, { wave, mel, heat, rowHeight }) {
  const { inks, scale } = view;
  const bottom = heat.height ? heat.y + heat.height : mel.y + mel.height;
  const all = { x: wave.x, y: 0, width: wave.width, height: bottom };
  const line = (time, colour, width) => {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    context.moveTo(scale.x(time, all), wave.y - 4);
    context.lineTo(scale.x(time, all), bottom);
    context.stroke();
  };
  if (view.selected >= 0 && view.map) paintSelection(view, context, { wave, heat, rowHeight });
  clipped(context, all, () => {
    if (view.brush) {
      const [left, right] = [scale.x(view.brush.start, all), scale.x(view.brush.end, all)];
      context.globalAlpha = 0.13;
      context.fillStyle = inks.accent;
      context.fillRect(left, wave.y - 4, right - left, bottom - wave.y + 4);
      context.globalAlpha = 1;
      line(view.brush.start, inks.accent, 1.5);
      line(view.brush.end, inks.accent, 1.5);
    }
    if (view.pointer) {
      context.globalAlpha = 0.5;
      line(view.pointer.time, inks.text, 1);
      context.globalAlpha = 1;
    }
    if (view.playhead !== null) line(view.playhead, inks.accent, 2);
  });
}

// A bracket over the moment of the selected word, and a frame around its rows.
function paintSelection(view, context, { wave, heat, rowHeight }) {
  const { inks, scale, words } = view;
  const look = view.lookOf(view.selected);
  context.strokeStyle = inks.accent;
  context.fillStyle = inks.accent;
  context.lineWidth = 2;
  if (look) {
    const [left, right] = [look.start, look.end].map((time) => clamp(scale.x(time, wave), wave.x, wave.x + wave.width));
    context.beginPath();
    context.moveTo(left, wave.y);
    context.lineTo(left, wave.y - 5);
    context.lineTo(right, wave.y - 5);
    context.lineTo(right, wave.y);
    context.stroke();
    const before = look.end < scale.start ? "◂ " : "";
    const after = look.start > scale.end ? " ▸" : "";
    const text = `${before}${fixed(look.start)} – ${fixed(look.end)} ${words.seconds}${after}`;
    context.font = inks.font(11, 600);
    context.textAlign = "center";
    context.textBaseline = "bottom";
    const half = context.measureText(text).width / 2;
    context.fillText(text, clamp((left + right) / 2, wave.x + half, wave.x + wave.width - half), wave.y - 7);
  }
  const group = view.together(view.selected);
  const y = heat.y + Math.min(...group) * rowHeight;
  context.lineWidth = 1.5;
  context.strokeRect(heat.x + 0.75, y + 0.75, heat.width - 1.5, Math.max(3, group.length * rowHeight - 1.5));
}

function paintOverview(view) {
  const { inks, scale, sounds, overview } = view;
  const [width, height] = [overview.clientWidth, 28];
  if (!width) return;
  const context = sized(overview, width, height);
  const rect = { x: 0, y: 0, width, height };
  const whole = new TimeScale(scale.duration);
  const inner = { ...rect, y: 3, height: height - 6 };
  const draw = (ink) => sounds.forEach((sound) => drawWave(context, inner, whole, sound, ink));
  draw(scale.zoomed ? inks.line : inks.trace);
  const [left, right] = [whole.x(scale.start, rect), whole.x(scale.end, rect)];
  clipped(context, { x: left, y: 0, width: right - left, height }, () => {
    draw(inks.trace);
  });
  if (!scale.zoomed) return;
  context.strokeStyle = inks.accent;
  context.lineWidth = 1.5;
  context.beginPath();
  context.roundRect(left + 1, 1, Math.max(4, right - left - 2), height - 2, 4);
  context.stroke();
}

// --- pointer --------------------------------------------------------------------------------------------------------

function placeOf(view, event) {
  const box = view.over.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  const { wave, heat, axis, rowHeight } = view.rects;
  const row = rowHeight && y >= heat.y && y < heat.y + heat.height ? Math.floor((y - heat.y) / rowHeight) : -1;
  return { x, y, time: view.scale.time(x, wave), row, inAxis: y >= axis.y, inGutter: x < wave.x };
}

function listenPlot(view) {
  const { over, scale } = view;
  const fingers = new Map();
  let drag = null;

  over.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !view.rects) return;
    const place = placeOf(view, event);
    fingers.set(event.pointerId, place);
    over.setPointerCapture(event.pointerId);
    if (fingers.size === 2) {
      const [a, b] = [...fingers.values()];
      drag = { kind: "pinch", from: a.time, to: b.time };
    } else {
      drag = { kind: place.inAxis ? "pan" : "brush", from: place.time, x: place.x, place, moved: false };
    }
  });

  over.addEventListener("pointermove", (event) => {
    if (!view.rects) return;
    const place = placeOf(view, event);
    hoverAt(view, place, event.pointerType);
    if (!drag || !fingers.has(event.pointerId)) return;
    fingers.set(event.pointerId, place);
    drag.moved = drag.moved || Math.abs(place.x - drag.x) > 4;
    if (drag.kind === "pinch" && fingers.size === 2) pinch(view, [...fingers.values()], drag);
    else if (drag.kind === "pan") view.rescale(() => scale.pan(drag.from - place.time));
    else if (drag.kind === "brush" && drag.moved) {
      if (view.selected >= 0) view.clear();
      view.setBrush(Math.min(drag.from, place.time), Math.max(drag.from, place.time));
    }
  });

  const up = (event) => {
    fingers.delete(event.pointerId);
    const ended = drag;
    if (!fingers.size) drag = null;
    if (event.type !== "pointerup" || !ended || ended.kind !== "brush") return;
    if (!ended.moved) clickAt(view, ended.place);
    else if (view.options.onBrush && view.stretch) view.options.onBrush(view.stretch);
  };
  over.addEventListener("pointerup", up);
  over.addEventListener("pointercancel", up);
  over.addEventListener("pointerleave", () => hoverAt(view, null));
  over.addEventListener("dblclick", () => {
    const { brush } = view;
    view.rescale(() => (brush ? scale.show(brush.start, brush.end) : scale.fit()));
  });
  over.addEventListener("wheel", (event) => wheelAt(view, event), { passive: false });
}

// A click on a row picks its token; a click on the sound picks the token that looks there most.
function clickAt(view, place) {
  if (view.brush) {
    view.clear();
    return;
  }
  if (place.row >= 0) view.select(place.row, true);
  else if (!place.inGutter && !place.inAxis && view.map) {
    const f = view.frames.end.findIndex((end, k) => place.time >= view.frames.start[k] && place.time < end);
    const shares = view.payload.tokens.map((token, k) => {
      if (f < 0 || !isWord(token)) return 0;
      const row = view.rowOf(k);
      return row[f] / Math.max(1e-9, row.reduce((all, value) => all + value, 0));
    });
    const best = shares.indexOf(Math.max(...shares));
    if (shares[best] > 0) view.select(best, true);
  }
}

function pinch(view, [a, b], { from, to }) {
  const { wave } = view.rects;
  const [x1, x2] = [a.x - wave.x, b.x - wave.x];
  if (Math.abs(x2 - x1) < 8) return;
  const perPixel = (to - from) / (x2 - x1);
  const start = from - x1 * perPixel;
  if (perPixel > 0) view.rescale(() => view.scale.show(start, start + perPixel * wave.width));
}

// Plain wheels scroll the page as everywhere; with ctrl (and so by a trackpad pinch) they zoom, sideways they pan.
function wheelAt(view, event) {
  if (!view.rects) return;
  const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    view.rescale(() => view.scale.zoom(Math.exp(-event.deltaY / 200), placeOf(view, event).time));
  } else if (view.scale.zoomed && Math.abs(sideways) > (event.shiftKey ? 0 : Math.abs(event.deltaY))) {
    event.preventDefault();
    view.rescale(() => view.scale.pan((sideways / view.rects.wave.width) * view.scale.length));
  }
}

function hoverAt(view, place, pointer = "mouse") {
  const outside = !place || place.inAxis || place.inGutter || pointer === "touch";
  view.pointer = outside ? null : place;
  const inside = place && place.row >= 0 ? "pointer" : "crosshair";
  view.over.style.cursor = place && place.inAxis ? "grab" : outside ? "default" : inside;
  view.hover.textContent = outside ? "" : hoverText(view, place);
  view.paintOver();
}

function hoverText(view, place) {
  const time = `${fixed(place.time)} ${view.words.seconds}`;
  if (place.row < 0 || !view.map) return time;
  const f = view.frames.end.findIndex((end, k) => place.time >= view.frames.start[k] && place.time < end);
  const share = f < 0 ? 0 : view.map[place.row * view.frames.n + f];
  return `${view.payload.tokens[place.row].label}   ${time}   ${(100 * share).toFixed(1)} %`;
}

// The overview is the scroll bar of the time axis: drag it, or press where to go.
function listenOverview(view) {
  const { overview, scale } = view;
  const go = (event) => {
    const box = overview.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * scale.duration;
    view.rescale(() => scale.pan(at - (scale.start + scale.end) / 2));
  };
  overview.addEventListener("pointerdown", (event) => {
    overview.setPointerCapture(event.pointerId);
    go(event);
  });
  overview.addEventListener("pointermove", (event) => {
    if (overview.hasPointerCapture(event.pointerId)) go(event);
  });
}
