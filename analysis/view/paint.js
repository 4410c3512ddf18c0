// Drawing only: numbers and a rectangle in, pixels out. Colours come from the style sheet.

// The colours of the moment, read off the root element; canvases cannot use CSS variables themselves.
function inksOf(root) {
  const style = getComputedStyle(root);
  const read = (name) => style.getPropertyValue(`--lv-${name}`).trim();
  const names = ["text", "muted", "line", "panel", "accent", "trace"];
  const inks = Object.fromEntries(names.map((name) => [name, read(name)]));
  inks.heat = rampOf(read("heat"));
  inks.loud = rampOf(read("ramp"));
  inks.font = (size, weight = 400) => `${weight} ${size}px ${style.fontFamily}`;
  return inks;
}

// 256 colours as RGBA, from a comma-separated list of #rrggbb.
function rampOf(list) {
  const stops = list.split(",").map((text) => [1, 3, 5].map((k) => parseInt(text.trim().slice(k, k + 2), 16)));
  const table = new Uint8ClampedArray(256 * 4);
  for (let k = 0; k < 256; k += 1) {
    const place = (k / 255) * (stops.length - 1);
    const low = Math.min(stops.length - 2, Math.floor(place));
    for (let c = 0; c < 3; c += 1) {
      table[4 * k + c] = stops[low][c] + (place - low) * (stops[low + 1][c] - stops[low][c]);
    }
    table[4 * k + 3] = 255;
  }
  return table;
}

// Give a canvas its size in CSS pixels and enough real pixels for the screen; returns a context in CSS pixels.
function sized(canvas, width, height) {
  const ratio = Math.min(3, window.devicePixelRatio || 1);
  const [w, h] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(w / width, 0, 0, h / height, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

function clipped(context, rect, draw) {
  context.save();
  context.beginPath();
  context.rect(rect.x, rect.y, rect.width, rect.height);
  context.clip();
  draw();
  context.restore();
}

// An image with one pixel per value, coloured by a ramp; `codes` 0..255, rows from the top.
function imageOf(codes, width, height, ramp) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  if (!width || !height) return canvas;
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const colours = new Uint32Array(ramp.buffer);
  for (let k = 0; k < pixels.length; k += 1) pixels[k] = colours[codes[k]];
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function melImage(mel, ramp) {
  const upsideDown = new Uint8Array(mel.codes.length); // low bins are stored first and drawn at the bottom
  for (let bin = 0; bin < mel.bins; bin += 1) {
    upsideDown.set(mel.codes.subarray(bin * mel.columns, (bin + 1) * mel.columns), (mel.bins - 1 - bin) * mel.columns);
  }
  return imageOf(upsideDown, mel.columns, mel.bins, ramp);
}

// [row * frame] values to codes: each row by its own maximum, or all by one.
function heatCodes(map, rows, frames, scaleRows) {
  const codes = new Uint8Array(rows * frames);
  let top = 0;
  if (!scaleRows) for (const value of map) top = Math.max(top, value);
  for (let r = 0; r < rows; r += 1) {
    if (scaleRows) {
      top = 0;
      for (let f = 0; f < frames; f += 1) top = Math.max(top, map[r * frames + f]);
    }
    if (top <= 0) continue;
    for (let k = r * frames; k < (r + 1) * frames; k += 1) codes[k] = Math.round((255 * map[k]) / top);
  }
  return codes;
}

function drawWave(context, rect, scale, sound, colour) {
  const perPixel = (scale.length * sound.rate) / rect.width;
  const level = sound.levels.findLast(({ block }) => block <= Math.max(1, perPixel / 2));
  const middle = rect.y + rect.height / 2;
  const unit = (rect.height / 2 - 3) / sound.loudest;
  const perBlock = sound.rate / level.block;
  const sampleAt = (x) => (scale.start + ((x - rect.x) / rect.width) * scale.length - sound.offset_s) * perBlock;
  const first = Math.max(rect.x, Math.floor(scale.x(sound.offset_s, rect)));
  const last = Math.min(rect.x + rect.width, scale.x(sound.offset_s + sound.duration_s, rect));
  context.fillStyle = colour;
  context.beginPath();
  for (let x = first; x < last; x += 1) {
    const from = clamp(Math.floor(sampleAt(x)), 0, level.low.length - 1);
    const to = clamp(Math.ceil(sampleAt(x + 1)), from + 1, level.low.length);
    let low = 32767;
    let high = -32768;
    for (let k = from; k < to; k += 1) {
      if (level.low[k] < low) low = level.low[k];
      if (level.high[k] > high) high = level.high[k];
    }
    const y = middle - high * unit;
    context.rect(x, y, 1, Math.max(1, (high - low) * unit));
  }
  context.fill();
}

// Bring out the parts of a drawing that are attended to: it is drawn again, frame by frame, as strongly as looked at.
function drawLooked(context, rect, scale, row, frames, draw) {
  const top = row.reduce((most, value) => Math.max(most, value), 0);
  for (let f = 0; f < frames.n && top > 0; f += 1) {
    const strength = row[f] / top;
    if (strength < 0.04 || frames.end[f] < scale.start || frames.start[f] > scale.end) continue;
    // Whole pixels: neighbours must neither overlap nor leave a seam.
    const x = Math.round(scale.x(frames.start[f], rect));
    const width = Math.round(scale.x(frames.end[f], rect)) - x;
    clipped(context, { x, y: rect.y, width, height: rect.height }, () => draw(strength, x, width));
  }
  context.globalAlpha = 1;
}

// Frames that follow each other evenly are drawn as one stretched image.
function frameRuns(frames) {
  const runs = [];
  for (let f = 0; f < frames.n; f += 1) {
    const last = runs[runs.length - 1];
    const joined = last && Math.abs(frames.start[f] - frames.end[f - 1]) < 2e-3;
    if (joined && frames.clip[f] === frames.clip[last.from]) last.to = f + 1;
    else runs.push({ from: f, to: f + 1 });
  }
  return runs;
}

function drawHeat(context, rect, scale, image, frames, runs) {
  context.imageSmoothingEnabled = rect.height < image.height; // more tokens than pixels: blend rather than drop
  for (const { from, to } of runs) {
    const [left, right] = [scale.x(frames.start[from], rect), scale.x(frames.end[to - 1], rect)];
    const only = frames.end[from] - frames.start[from];
    const step = (frames.end[to - 1] - frames.end[from]) / Math.max(1, to - from - 1) || only;
    // The first frame of a clip is cut short at 0; the image is laid out as if it were whole.
    const x = scale.x(frames.end[from] - step, rect);
    const seen = [Math.max(rect.x, left), Math.min(right, rect.x + rect.width)];
    clipped(context, { ...rect, x: seen[0], width: seen[1] - seen[0] }, () => {
      context.drawImage(image, from, 0, to - from, image.height, x, rect.y, right - x, rect.height);
    });
  }
  context.imageSmoothingEnabled = true;
}

function drawAxis(context, rect, scale, inks, unit) {
  const { times, digits } = scale.ticks(rect.width / 90);
  context.font = inks.font(11);
  context.fillStyle = inks.muted;
  context.strokeStyle = inks.line;
  context.textBaseline = "top";
  for (const time of times) {
    const x = scale.x(time, rect);
    context.beginPath();
    context.moveTo(x, rect.y);
    context.lineTo(x, rect.y + 5);
    context.stroke();
    const text = fixed(time, digits) + (time === times[0] ? ` ${unit}` : "");
    const half = context.measureText(text).width / 2;
    context.textAlign = "center";
    context.fillText(text, clamp(x, rect.x + half, rect.x + rect.width - half), rect.y + 7);
  }
}

// Text that ends with an ellipsis where it would not fit; returns nothing.
function drawLabel(context, text, right, middle, width) {
  let shown = text;
  while (shown.length > 1 && context.measureText(shown).width > width) shown = `${shown.slice(0, -2)}…`;
  context.textAlign = "right";
  context.textBaseline = "middle";
  context.fillText(shown, right, middle);
}
