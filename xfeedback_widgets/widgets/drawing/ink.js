// The ink layer: takes mouse, touch and pen over a stage, draws what is being drawn at once, sends the
// points in batches, and shows the mask that comes back. It also zooms and pans, which is this page's
// own business. Keys and focus are bridge.js's, except those that end an open polygon.

const THINNEST = 0.7072; // as in raster.py
const BATCH = 50; // milliseconds between two messages of one stroke
const STILL = 3; // CSS pixels below which a press is a click and not a drag
const NEAR = 9; // CSS pixels from its first corner within which a click closes a polygon
const MAX_ZOOM = 16;
const PALM = 500; // milliseconds after a pen in which a touch is a resting hand
const LOOKS = {
  "1": { tint: "rgba(47,127,184,0.30)", solid: "#2f7fb8", draw: dots },
  "-1": { tint: "rgba(209,121,11,0.26)", solid: "#d1790b", draw: hatching },
};

function dots(context, side, ratio) {
  for (const [width, colour] of [[2.1, "#06243b"], [1.2, "#e8f4ff"]]) {
    context.fillStyle = colour;
    context.beginPath();
    context.arc(side / 2, side / 2, width * ratio, 0, 2 * Math.PI);
    context.fill();
  }
}

function hatching(context, side, ratio) {
  for (const [width, colour] of [[3, "#3a2000"], [1.5, "#ffd9a3"]]) {
    context.strokeStyle = colour;
    context.lineWidth = width * ratio;
    context.beginPath();
    for (const shift of [-side, 0, side]) {
      context.moveTo(shift - side, 2 * side);
      context.lineTo(shift + 2 * side, -side);
    }
    context.stroke();
  }
}

const blank = (width, height) => Object.assign(document.createElement("canvas"), { width, height });

function pattern(value, ratio, opaque) {
  const side = Math.round((value > 0 ? 10 : 13) * ratio);
  const tile = blank(side, side);
  const context = tile.getContext("2d");
  const { tint, solid, draw } = LOOKS[value];
  context.fillStyle = opaque ? solid : tint;
  context.fillRect(0, 0, side, side);
  draw(context, side, ratio);
  return context.createPattern(tile, "repeat");
}

// a mask as ink.py encodes it, made ready for drawing: a bitmap and an outline for each value
function decode(data) {
  if (!data || data.byteLength < 12) return null;
  const words = new Uint32Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength));
  const [width, height] = words;
  const values = new Int8Array(width * height);
  let at = 0;
  for (const run of words.subarray(2)) {
    const length = run & 0x3fffffff;
    values.fill((run >>> 30) - 1, at, at + length);
    at += length;
  }
  const regions = [-1, 1].filter((value) => values.includes(value))
    .map((value) => ({ value, bitmap: bitmapOf(values, value, width, height), outline: outlineOf(values, value, width, height) }));
  return { width, height, regions };
}

function bitmapOf(values, value, width, height) {
  const canvas = blank(width, height);
  const pixels = new ImageData(width, height);
  const words = new Uint32Array(pixels.data.buffer);
  for (let i = 0; i < values.length; i++) if (values[i] === value) words[i] = 0xffffffff;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

// lines between a pixel inside and one outside, joined where they go on straight
function outlineOf(values, value, width, height) {
  const path = new Path2D();
  const trace = (lines, length, stride, step, draw) => {
    for (let line = 0; line <= lines; line++) {
      let from = -1;
      for (let at = 0; at <= length; at++) {
        const index = line * stride + at * step;
        const differs = at < length &&
          (line < lines && values[index] === value) !== (line > 0 && values[index - stride] === value);
        if (differs && from < 0) from = at;
        else if (!differs && from >= 0) { draw(from, at, line); from = -1; }
      }
    }
  };
  trace(height, width, width, 1, (a, b, y) => { path.moveTo(a, y); path.lineTo(b, y); });
  trace(width, height, 1, width, (a, b, x) => { path.moveTo(x, a); path.lineTo(x, b); });
  return path;
}

// what a disc covers on its way from one point to the next: the convex hull of the two discs
function hull(context, x0, y0, r0, x1, y1, r1) {
  const way = Math.hypot(x1 - x0, y1 - y0);
  context.beginPath();
  if (way <= Math.abs(r0 - r1)) {
    const [x, y, r] = r0 > r1 ? [x0, y0, r0] : [x1, y1, r1];
    context.arc(x, y, r, 0, 2 * Math.PI);
  } else {
    const direction = Math.atan2(y1 - y0, x1 - x0);
    const opening = Math.acos((r0 - r1) / way);
    context.arc(x0, y0, r0, direction + opening, direction - opening + 2 * Math.PI);
    context.arc(x1, y1, r1, direction - opening, direction + opening);
    context.closePath();
  }
  context.fill();
}

function attach(model, pad, cleanup) {
  const stage = pad.closest(".xf-stage");
  const painted = pad.appendChild(document.createElement("canvas"));
  const live = pad.appendChild(document.createElement("canvas"));
  const ring = pad.appendChild(document.createElement("div"));
  painted.className = "xf-overlay";
  live.className = "xf-overlay xf-wet";
  ring.className = "xf-ring";
  const ink = { painted: painted.getContext("2d"), live: live.getContext("2d") };
  const page = Math.random().toString(36).slice(2, 10);
  const view = { zoom: 1, x: 0, y: 0 }; // CSS pixels; the picture's corner lies at x, y
  const box = { width: 1, height: 1, ratio: 1 };
  const pointers = new Map(); // what lies on the pad now
  let sheet = model.get("sheet");
  let mask = null, outline = null, patterns = {};
  let waiting = []; // finished strokes that are not in the mask yet
  let stroke = null; // the one being drawn, an open polygon included
  let gesture = null; // a pan or a pinch
  let last = null; // where the last stroke ended, in picture pixels
  let hover = null, lastPen = -Infinity, count = 0, frame = 0, zoomTimer = 0, told = 1;
  let bounds = null, ringFrame = 0; // where the pad is on screen, asked for once in a frame

  const listen = (target, type, handler, options) => {
    target.addEventListener(type, handler, options);
    cleanup.push(() => target.removeEventListener(type, handler, options));
  };
  const scale = () => (box.width / model.get("width")) * view.zoom; // CSS pixels of one picture pixel
  const soon = () => { frame ||= requestAnimationFrame(() => { frame = 0; repaint(); }); };
  // a fast pointer comes many times in a frame: the ring follows once, and between a look at the page's
  // layout and the next one nothing is changed, or each would be worked out anew
  const ringSoon = () => { ringFrame ||= requestAnimationFrame(() => { ringFrame = 0; bounds = null; moveRing(); }); };
  cleanup.push(() => { for (const id of [frame, ringFrame]) cancelAnimationFrame(id); clearTimeout(zoomTimer); });

  // ---------------------------------------------------------------- where things are

  const place = (event) => {
    bounds ??= pad.getBoundingClientRect();
    ringSoon();
    return [event.clientX - bounds.left, event.clientY - bounds.top];
  };
  const toPicture = ([x, y]) => [(x - view.x) / scale(), (y - view.y) / scale()];
  const fine = (number) => Math.round(number * 64) / 64; // short numbers are stored in half the space

  const useView = (context) => {
    const factor = scale() * box.ratio;
    context.setTransform(factor, 0, 0, factor, view.x * box.ratio, view.y * box.ratio);
    return factor;
  };

  const look = (zoom, x, y) => {
    view.zoom = Math.min(MAX_ZOOM, Math.max(1, zoom));
    view.x = Math.min(0, Math.max(box.width * (1 - view.zoom), x));
    view.y = Math.min(0, Math.max(box.height * (1 - view.zoom), y));
    stage.style.setProperty("--xf-view", `translate(${view.x}px, ${view.y}px) scale(${view.zoom})`);
    pad.dataset.zoom = view.zoom.toFixed(2);
    clearTimeout(zoomTimer);
    zoomTimer = setTimeout(() => {
      if (view.zoom !== told) model.send({ kind: "zoom", zoom: told = view.zoom });
    }, 200);
    moveRing();
    soon();
  };
  const zoomAt = (factor, [x, y]) => {
    const zoom = Math.min(MAX_ZOOM, Math.max(1, view.zoom * factor));
    const grown = zoom / view.zoom;
    look(zoom, x - (x - view.x) * grown, y - (y - view.y) * grown);
  };

  const measure = () => {
    const { width, height } = pad.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    if (!width || (width === box.width && height === box.height && ratio === box.ratio)) return;
    const grown = width / box.width;
    Object.assign(box, { width, height, ratio });
    for (const canvas of [painted, live]) {
      canvas.width = Math.round(box.width * ratio);
      canvas.height = Math.round(box.height * ratio);
    }
    patterns = {};
    for (const value of [-1, 1]) patterns[value] = { mask: pattern(value, ratio, false), ink: pattern(value, ratio, true) };
    look(view.zoom, view.x * grown, view.y * grown);
  };

  // ---------------------------------------------------------------- painting

  const repaint = () => {
    const context = ink.painted;
    for (const layer of Object.values(ink)) {
      layer.setTransform(1, 0, 0, 1, 0, 0);
      layer.clearRect(0, 0, painted.width, painted.height);
    }
    for (const region of mask?.regions ?? []) paintRegion(context, region);
    for (const region of outline?.regions ?? []) paintLine(context, outline, region.outline, [["#000c", 4], ["#ffe945", 2]]);
    paintCell(context);
    for (const each of waiting) draw(each);
    if (stroke) draw(stroke);
  };

  const paintRegion = (context, { value, bitmap, outline: line }) => {
    const cut = blank(painted.width, painted.height);
    const inner = cut.getContext("2d");
    inner.imageSmoothingEnabled = false; // pixels of the mask are seen as they are
    useView(inner);
    inner.drawImage(bitmap, 0, 0, model.get("width"), model.get("height"));
    inner.setTransform(1, 0, 0, 1, 0, 0);
    inner.globalCompositeOperation = "source-in";
    inner.fillStyle = patterns[value].mask;
    inner.fillRect(0, 0, cut.width, cut.height);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(cut, 0, 0);
    const lines = value > 0 ? [["#06243b", 4], ["#9fd4ff", 2]] : [["#3a2000", 3], ["#ffb347", 1.5]];
    paintLine(context, mask, line, lines);
  };

  const paintLine = (context, { width }, path, lines) => {
    const factor = useView(context) * (model.get("width") / width);
    context.scale(model.get("width") / width, model.get("width") / width);
    context.lineCap = "square";
    for (const [colour, thick] of lines) {
      context.strokeStyle = colour;
      context.lineWidth = (thick * box.ratio) / factor;
      context.stroke(path);
    }
  };

  const paintCell = (context) => {
    const [row, column, rows, columns] = model.get("cell");
    if (!rows) return;
    const wide = model.get("width") / columns, high = model.get("height") / rows;
    const factor = useView(context);
    const grid = new Path2D();
    for (let x = 1; x < columns; x++) { grid.moveTo(x * wide, 0); grid.lineTo(x * wide, rows * high); }
    for (let y = 1; y < rows; y++) { grid.moveTo(0, y * high); grid.lineTo(columns * wide, y * high); }
    context.lineWidth = box.ratio / factor;
    context.strokeStyle = "#ffffff66";
    context.stroke(grid);
    for (const [colour, thick] of [["#000", 6], ["#fff", 2.5]]) {
      context.strokeStyle = colour;
      context.lineWidth = (thick * box.ratio) / factor;
      context.strokeRect(column * wide, row * high, wide, high);
    }
  };

  // ---------------------------------------------------------------- ink

  const radius = (each, index) => Math.max((each.size * (each.columns > 2 ? each.points[index + 2] : 1)) / 2, THINNEST);

  // draw a stroke from one of its points on; the eraser takes away from the mask on screen, too
  const drawBrush = (each, from = 0) => {
    const { points, columns, value } = each;
    const layers = value ? [ink.live] : [ink.painted, ink.live];
    for (const context of layers) {
      const factor = scale() * box.ratio;
      context.setTransform(1, 0, 0, 1, view.x * box.ratio, view.y * box.ratio);
      context.globalCompositeOperation = value ? "source-over" : "destination-out";
      context.fillStyle = value ? patterns[value].ink : "#000";
      for (let i = from; i < points.length; i += columns) {
        const before = Math.max(0, i - columns);
        hull(
          context,
          points[before] * factor, points[before + 1] * factor, radius(each, before) * factor,
          points[i] * factor, points[i + 1] * factor, radius(each, i) * factor,
        );
      }
      context.globalCompositeOperation = "source-over";
    }
  };

  const drawShape = (each) => {
    const { points, columns, value, tool } = each;
    const context = ink.live;
    const factor = useView(context);
    const path = new Path2D();
    if (tool === "rectangle") {
      path.rect(points[0], points[1], points[2] - points[0], points[3] - points[1]);
    } else {
      for (let i = 0; i < points.length; i += columns) path.lineTo(points[i], points[i + 1]);
      if (each.loose) path.lineTo(...each.loose);
      path.closePath();
    }
    if (value) {
      context.save();
      context.clip(path);
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.globalAlpha = 0.7;
      context.fillStyle = patterns[value].ink;
      context.fillRect(0, 0, live.width, live.height);
      context.restore();
    }
    for (const [colour, thick] of [["#000", 4], ["#fff", 1.5]]) {
      context.strokeStyle = colour;
      context.lineWidth = (thick * box.ratio) / factor;
      context.stroke(path);
    }
    if (each === stroke && tool === "polygon" && points.length) {
      context.fillStyle = "#fff";
      context.strokeStyle = "#000";
      const half = (3.5 * box.ratio) / factor;
      context.fillRect(points[0] - half, points[1] - half, 2 * half, 2 * half);
      context.strokeRect(points[0] - half, points[1] - half, 2 * half, 2 * half);
    }
  };

  const draw = (each) => (each.tool === "brush" ? drawBrush(each) : drawShape(each));

  // ---------------------------------------------------------------- strokes

  const push = (each, spot, event) => {
    const [x, y] = toPicture(spot);
    each.points.push(fine(x), fine(y));
    if (each.columns > 2) {
      if (event.buttons && event.pressure > 0) each.pressure = Math.min(1, event.pressure);
      each.points.push(each.pressure);
    }
  };

  const begin = (event, spot) => {
    const pen = event.pointerType === "pen";
    const tool = model.get("tool");
    const value = pen && event.buttons & 32 ? 0 : model.get("value"); // a pen's other end erases
    stroke = {
      name: `${page}-${count++}`, pointer: event.pointerId, touch: event.pointerType === "touch", sheet, tool, value,
      size: model.get("size"), columns: pen && tool === "brush" ? 3 : 2, pressure: 0.5, points: [], sent: 0,
      straight: tool === "brush" && event.shiftKey, start: spot, moved: false, at: performance.now(),
    };
    pad.classList.add("xf-open-shape");
    push(stroke, spot, event);
    if (tool === "rectangle" || stroke.straight) push(stroke, spot, event); // its far end
    if (tool === "brush") drawBrush(stroke);
  };

  const extend = (event, spot) => {
    stroke.moved ||= Math.hypot(spot[0] - stroke.start[0], spot[1] - stroke.start[1]) > STILL;
    const { columns, points } = stroke;
    if (stroke.straight || stroke.tool === "rectangle") {
      points.length = columns;
      push(stroke, spot, event);
      soon();
    } else if (stroke.tool === "polygon") {
      if (stroke.moved) push(stroke, spot, event);
      soon();
    } else {
      push(stroke, spot, event);
      drawBrush(stroke, points.length - columns);
      if (performance.now() - stroke.at > BATCH) flush(stroke);
    }
  };

  const flush = (each, kind = "points") => {
    const part = new Float32Array(each.points.slice(each.sent));
    each.sent = each.points.length;
    each.at = performance.now();
    const { name, columns, tool, value, size } = each;
    const whole = kind === "stroke" ? { tool, value, size, sheet: each.sheet, count: each.points.length / columns } : {};
    model.send({ kind, stroke: name, columns, ...whole }, undefined, [part.buffer]);
  };

  const drop = () => {
    if (!stroke) return;
    if (stroke.sent) model.send({ kind: "cancel", stroke: stroke.name });
    close();
  };

  const close = () => {
    stroke = null;
    pad.classList.remove("xf-open-shape");
    soon();
  };

  const finish = () => {
    const { points, columns, tool } = stroke;
    if (stroke.straight && !stroke.moved && last) {
      points.splice(0, 2, ...last); // Shift and a click: a line from where the last stroke ended
    }
    const corners = points.length / columns;
    const nothing = (tool === "polygon" && corners < 3) || (tool === "rectangle" && !stroke.moved);
    if (nothing) return drop();
    if (tool === "brush") last = points.slice(-columns).slice(0, 2);
    flush(stroke, "stroke");
    waiting.push(stroke);
    close();
  };

  // a press in an open polygon adds a corner; a drag from nothing is a lasso and ends with the press
  const addCorner = (event, spot) => {
    const [x, y] = toPicture(spot);
    const [x0, y0] = stroke.points;
    if (stroke.points.length >= 6 && Math.hypot(x - x0, y - y0) * scale() < NEAR) return finish();
    Object.assign(stroke, { pointer: event.pointerId, start: spot, moved: false });
    push(stroke, spot, event);
    soon();
  };

  // ---------------------------------------------------------------- pointers

  const twoFingers = () => [...pointers.values()].filter((each) => each.touch).slice(0, 2).map((each) => each.spot);

  listen(pad, "pointerdown", (event) => {
    const touch = event.pointerType === "touch";
    const spot = place(event);
    pointers.set(event.pointerId, { spot, touch });
    if (event.pointerType === "pen") lastPen = performance.now();
    const tool = model.get("tool");
    if (touch && tool && twoFingers().length === 2) {
      if (stroke?.touch) drop();
      gesture = { kind: "pinch", fingers: twoFingers() };
    } else if (event.button === 1 || (tool === "pan" && event.button === 0)) {
      gesture = { kind: "pan", pointer: event.pointerId, spot };
      pad.classList.add("xf-panning");
    } else if (!tool || event.button > 0 && event.button !== 5 || gesture || (touch && performance.now() - lastPen < PALM)) {
      return;
    } else if (stroke?.tool === "polygon") {
      addCorner(event, spot);
    } else if (!stroke) {
      begin(event, spot);
    }
    try { pad.setPointerCapture(event.pointerId); } catch { /* it has been lifted already */ }
  });

  listen(pad, "pointermove", (event) => {
    const spot = place(event);
    const known = pointers.get(event.pointerId);
    if (known) known.spot = spot;
    hover = event.pointerType === "touch" ? null : spot;
    if (gesture?.kind === "pinch") {
      pinch();
    } else if (gesture?.kind === "pan" && gesture.pointer === event.pointerId) {
      look(view.zoom, view.x + spot[0] - gesture.spot[0], view.y + spot[1] - gesture.spot[1]);
      gesture.spot = spot;
    } else if (known && stroke?.pointer === event.pointerId) {
      if (event.pointerType === "pen") lastPen = performance.now();
      const parts = event.getCoalescedEvents?.() ?? [];
      for (const part of parts.length ? parts : [event]) extend(part, place(part));
    } else if (stroke?.tool === "polygon") {
      stroke.loose = toPicture(spot);
      soon();
    }
  });

  const pinch = () => {
    const [a, b] = twoFingers();
    const [p, q] = gesture.fingers;
    const middle = (u, v) => [(u[0] + v[0]) / 2, (u[1] + v[1]) / 2];
    const apart = (u, v) => Math.max(1, Math.hypot(u[0] - v[0], u[1] - v[1]));
    const from = middle(p, q), to = middle(a, b);
    zoomAt(apart(a, b) / apart(p, q), from);
    look(view.zoom, view.x + to[0] - from[0], view.y + to[1] - from[1]);
    gesture.fingers = [a, b];
  };

  // also when the pointer is lifted outside, or the system takes it away: what was drawn stays
  const lift = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    if (gesture) {
      if (gesture.pointer === event.pointerId || ![...pointers.values()].some((each) => each.touch)) gesture = null;
      pad.classList.toggle("xf-panning", gesture?.kind === "pan");
    } else if (stroke?.pointer === event.pointerId) {
      const [x, y] = stroke.points.slice(-stroke.columns);
      if (event.type === "pointerup" && toPicture(place(event)).some((at, axis) => fine(at) !== [x, y][axis]))
        extend(event, place(event));
      if (stroke.tool !== "polygon" || (stroke.moved && !stroke.open)) finish();
      else Object.assign(stroke, { pointer: null, open: true });
    }
  };
  for (const type of ["pointerup", "pointercancel", "lostpointercapture"]) listen(pad, type, lift);
  listen(window, "blur", () => { for (const pointerId of [...pointers.keys()]) lift({ pointerId }); });
  listen(pad, "pointerleave", () => { hover = null; moveRing(); });
  listen(pad, "dblclick", () => { if (stroke?.tool === "polygon") finish(); });
  listen(pad, "mousedown", (event) => { if (event.button === 1) event.preventDefault(); }); // no autoscroll
  listen(pad, "contextmenu", (event) => { if (event.pointerType !== "mouse") event.preventDefault(); });

  listen(pad, "wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    const turned = -(event.deltaY || event.deltaX) * (event.deltaMode ? 30 : 1);
    if (event.shiftKey) model.send({ kind: "size", steps: Math.sign(turned) });
    else zoomAt(Math.exp(Math.max(-120, Math.min(120, turned)) / 400), place(event));
  }, { passive: false });

  // keys that end what is open; everything else is the bridge's
  listen(window, "keydown", (event) => {
    const root = pad.closest(".xf-root");
    if (!stroke || !root?.contains(event.target)) return;
    if (event.key === "Escape") drop();
    else if (event.key === "Enter" && stroke.tool === "polygon") finish();
    else if (event.key === "Backspace" && stroke.tool === "polygon" && stroke.points.length > 2) stroke.points.length -= 2;
    else return;
    soon();
    event.preventDefault();
    event.stopImmediatePropagation();
  }, true);

  const moveRing = () => {
    const shown = hover && model.get("tool") === "brush";
    ring.style.visibility = shown ? "visible" : "hidden";
    if (!shown) return;
    const side = Math.max(4, 2 * Math.max(model.get("size") / 2, THINNEST) * scale());
    ring.dataset.value = model.get("value");
    ring.style.width = ring.style.height = `${side}px`;
    ring.style.transform = `translate(${hover[0] - side / 2}px, ${hover[1] - side / 2}px)`;
  };

  // ---------------------------------------------------------------- what comes from the kernel

  const follow = () => {
    pad.dataset.sheet = model.get("sheet");
    if (model.get("sheet") !== sheet) {
      sheet = model.get("sheet");
      if (stroke) drop();
      waiting = [];
      last = null;
      look(1, 0, 0);
    }
    const seen = new Set(model.get("seen"));
    waiting = waiting.filter((each) => !seen.has(each.name));
    soon();
  };
  const reactions = {
    sheet: follow, seen: follow, width: soon, height: soon, cell: soon, value: () => moveRing(), size: () => moveRing(),
    mask: () => { mask = decode(model.get("mask")); soon(); },
    outline: () => { outline = decode(model.get("outline")); soon(); },
    tool: () => {
      const tool = model.get("tool");
      if (stroke?.tool === "polygon" && tool !== "polygon") drop();
      if (tool) pad.dataset.tool = tool;
      else delete pad.dataset.tool;
      moveRing();
    },
    label: () => pad.setAttribute("aria-label", model.get("label")),
  };
  const command = (message) => {
    if (message.kind === "look")
      if (message.factor) zoomAt(message.factor, [box.width / 2, box.height / 2]);
      else look(1, 0, 0);
  };
  pad.setAttribute("role", "img");
  for (const [name, react] of Object.entries(reactions)) {
    model.on(`change:${name}`, react);
    cleanup.push(() => model.off(`change:${name}`, react));
  }
  model.on("msg:custom", command);
  cleanup.push(() => model.off("msg:custom", command));
  const resized = new ResizeObserver(measure);
  resized.observe(pad);
  cleanup.push(() => resized.disconnect());
  let screen = null; // a window can move to one with other pixels
  const watch = () => {
    screen?.removeEventListener("change", watch);
    screen = window.matchMedia(`(resolution: ${window.devicePixelRatio}dppx)`);
    screen.addEventListener("change", watch);
    measure();
  };
  cleanup.push(() => screen.removeEventListener("change", watch));
  watch();
  for (const name of ["sheet", "mask", "outline", "tool", "label"]) reactions[name]();
}

export default {
  render({ model, el }) {
    const cleanup = [];
    const pad = el.appendChild(document.createElement("div"));
    pad.className = "xf-pad";
    // the view is made before it is put into the page: wait for the stage
    const seek = setInterval(() => {
      if (!pad.closest(".xf-stage")) return;
      clearInterval(seek);
      attach(model, pad, cleanup);
    }, 20);
    cleanup.push(() => clearInterval(seek));
    return () => { for (const undo of cleanup) undo(); };
  },
};
