// The page of pictures: shows them, toggles what is clicked at once and by itself, and notes what happens
// as rows (what, tile, x, y, time), which it sends in batches. What is not acknowledged yet looks unsaved.
// Words around the pictures, turning pages and everything else are ipywidgets'.

const MOVE = 0, ENTER = 1, LEAVE = 2, SELECT = 3, UNSELECT = 4; // as in tracer.py
const BATCH = 250; // milliseconds between two messages
const SAMPLE = 1000 / 60; // between two places of the pointer
const NOWHERE = [-1, -1]; // where a key selected without pointing, as in tracer.py
const STEP = 0.1; // of a side: how far a key moves the mark
const SHEETS = ["sheet_0", "sheet_1", "sheet_2"];
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const timeOf = (event) => Math.round(performance.timeOrigin + event.timeStamp);
const make = (tag, className, parent) => {
  const node = document.createElement(tag);
  node.className = className;
  parent.appendChild(node);
  return node;
};

function attach(model, grid, root, cleanup) {
  const source = Math.random().toString(36).slice(2, 10);
  let shown = -1; // number of the page on screen
  let tiles = []; // its buttons
  let links = [];
  let rows = [], count = 0, timer = 0;
  let pending = []; // what was toggled and is not acknowledged, oldest first
  let places = ""; // as last sent
  let last = -Infinity, over = -1, at = 0;
  let aim = null; // [x, y] of the mark that keys move on the picture with the focus

  const listen = (target, type, handler, options) => {
    target.addEventListener(type, handler, options);
    cleanup.push(() => target.removeEventListener(type, handler, options));
  };

  // ---------------------------------------------------------------- what is sent

  const note = (what, tile, [x, y], time) => {
    rows.push(what, tile, x, y, time);
    timer ||= setTimeout(flush, BATCH);
  };
  const measure = () => {
    const corner = grid.getBoundingClientRect();
    const found = tiles.map((tile) => {
      const box = tile.getBoundingClientRect();
      return [box.left - corner.left, box.top - corner.top, box.width, box.height].map((v) => Math.round(v * 100) / 100);
    });
    return found.every(([, , width]) => width > 0) ? found : [];
  };
  const flush = () => {
    clearTimeout(timer);
    timer = 0;
    if (shown < 0) return;
    const now = measure();
    const moved = now.length && JSON.stringify(now) !== places;
    if (!rows.length && !moved) return;
    if (moved) places = JSON.stringify(now);
    const part = new Float64Array(rows);
    rows = [];
    model.send({
      kind: "batch", source, number: ++count, visit: shown, places: moved ? now : [],
      time: Math.round(performance.timeOrigin + performance.now()),
    }, undefined, [part.buffer]);
  };
  // before anything else hears of a press, Python has heard of what was before it
  for (const type of ["pointerdown", "keydown"])
    listen(root, type, (event) => { if (!grid.contains(event.target)) flush(); }, true);
  listen(window, "pagehide", flush);
  listen(document, "visibilitychange", flush);
  cleanup.push(flush);

  // ---------------------------------------------------------------- what is shown

  const isOn = (number) => {
    const own = pending.filter((each) => each.visit === shown && each.tile === number);
    return own.length ? own[own.length - 1].on : (model.get("chosen")[shown] ?? []).includes(number);
  };
  const mark = () => {
    tiles.forEach((tile, number) => {
      const on = isOn(number);
      if (tile.getAttribute("aria-pressed") !== String(on)) tile.setAttribute("aria-pressed", on);
      tile.classList.toggle("xf-picked", on);
      tile.classList.toggle("xf-unsaved", pending.some((each) => each.visit === shown && each.tile === number));
    });
  };
  const clear = (time) => {
    if (over >= 0) note(LEAVE, over, [0, 0], time);
    over = -1;
    flush();
    links.forEach((link) => URL.revokeObjectURL(link));
    links = [];
    tiles = [];
    grid.replaceChildren();
    places = "";
    aim = null;
  };
  const show = () => {
    const number = model.get("number");
    const sheet = SHEETS.map((name) => model.get(name)).find((each) => each?.number === number);
    grid.setAttribute("aria-label", model.get("label"));
    grid.setAttribute("aria-busy", String(number >= 0 && !sheet));
    if (number === shown && tiles.length) return mark();
    const focused = grid.contains(document.activeElement);
    if (shown >= 0 || !sheet) clear(Math.round(performance.timeOrigin + performance.now()));
    shown = sheet ? number : -1;
    if (!sheet) return;
    at = 0;
    sheet.tiles.forEach((tile, index) => tiles.push(build(tile, index, sheet.tiles.length)));
    mark();
    tiles[0].tabIndex = 0;
    if (focused) tiles[0].focus({ preventScroll: true });
    const here = shown;
    Promise.all([...grid.querySelectorAll("img")].map((image) => image.decode().catch(() => {}))).then(() => {
      if (shown !== here) return;
      grid.dataset.page = here; // all of it can be seen
      flush();
    });
  };
  const build = ({ picture, width, height }, number, of) => {
    const readable = picture.byteLength > 0;
    const cell = make("div", "xf-cell", grid);
    const tile = make("button", "xf-pick", cell);
    tile.type = "button";
    tile.tabIndex = -1;
    tile.dataset.tile = number;
    tile.setAttribute("aria-label", `Picture ${number + 1} of ${of}${readable ? "" : ", which cannot be read"}`);
    tile.style.width = `${100 * Math.min(1, width / height)}%`;
    tile.style.aspectRatio = `${width} / ${height}`;
    if (!readable) {
      tile.disabled = true;
      tile.textContent = "unreadable";
      return tile;
    }
    const image = make("img", width <= 64 ? "xf-pixels" : "", tile);
    image.alt = "";
    image.draggable = false;
    image.src = links[links.push(URL.createObjectURL(new Blob([picture]))) - 1];
    make("i", "xf-tick", tile).textContent = "✓";
    make("i", "xf-aim", tile);
    return tile;
  };

  // ---------------------------------------------------------------- pointers

  const tileOf = (node) => {
    const tile = node instanceof Element ? node.closest(".xf-pick") : null;
    return tile && !tile.disabled && grid.contains(tile) ? Number(tile.dataset.tile) : -1;
  };
  const place = (event, number) => {
    const box = tiles[number].getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  const enter = (event, number) => {
    if (number === over) return;
    if (over >= 0) note(LEAVE, over, place(event, over), timeOf(event));
    over = number;
    if (over >= 0) note(ENTER, over, place(event, over), timeOf(event));
  };
  listen(grid, "pointerover", (event) => enter(event, tileOf(event.target)));
  listen(grid, "pointerleave", (event) => enter(event, -1));
  listen(grid, "pointermove", (event) => {
    const number = tileOf(event.target), time = timeOf(event);
    if (number < 0 || time - last < SAMPLE || isOn(number)) return;
    last = time;
    note(MOVE, number, place(event, number), time);
  });
  listen(grid, "click", (event) => {
    const number = tileOf(event.target);
    if (number < 0) return;
    event.stopPropagation(); // the focus stays here
    const byKey = event.detail === 0;
    const on = !isOn(number);
    pending.push({ number: count + 1, visit: shown, tile: number, on });
    note(on ? SELECT : UNSELECT, number, byKey ? aim ?? NOWHERE : place(event, number), timeOf(event));
    focusOn(number, true);
    mark();
  });

  // ---------------------------------------------------------------- keys

  const takeAim = (where) => {
    aim = where;
    grid.querySelector(".xf-aiming")?.classList.remove("xf-aiming");
    if (!aim) return;
    const tile = tiles[at], cross = tile.querySelector(".xf-aim");
    tile.classList.add("xf-aiming");
    cross.style.left = `${100 * aim[0]}%`;
    cross.style.top = `${100 * aim[1]}%`;
  };
  const focusOn = (number, preventScroll = false) => {
    if (number !== at) takeAim(null);
    tiles[at].tabIndex = -1;
    at = number;
    tiles[at].tabIndex = 0;
    tiles[at].focus({ preventScroll });
  };
  const topOf = (tile) => tile.parentNode.offsetTop;
  const step = ([right, down]) => {
    const second = tiles.findIndex((tile) => topOf(tile) > topOf(tiles[0])); // first tile of the second row
    const next = at + right + down * (second > 0 ? second : tiles.length);
    if (next >= 0 && next < tiles.length) focusOn(next);
  };
  listen(root, "keydown", (event) => {
    const onGrid = grid.contains(event.target);
    const move = MOVES[event.key];
    if (!tiles.length || event.ctrlKey || event.altKey || event.metaKey || !(onGrid || (event.target === root && move))) return;
    if (!onGrid) focusOn(at);
    else if (move && event.shiftKey) takeAim((aim ?? [0.5, 0.5]).map((v, axis) => Math.round(Math.min(1, Math.max(0, v + STEP * move[axis])) * 100) / 100));
    else if (move) step(move);
    else if (event.key === "Home") focusOn(0);
    else if (event.key === "End") focusOn(tiles.length - 1);
    else if (event.key === "Escape" && aim) takeAim(null);
    else return;
    event.preventDefault();
  });

  // ---------------------------------------------------------------- what comes from the kernel

  const follow = () => {
    const written = model.get("acknowledged")[source] ?? 0;
    pending = pending.filter((each) => each.number > written);
    mark();
  };
  const reactions = { number: show, label: show, acknowledged: follow, chosen: mark };
  for (const name of SHEETS) reactions[name] = show;
  for (const [name, react] of Object.entries(reactions)) {
    model.on(`change:${name}`, react);
    cleanup.push(() => model.off(`change:${name}`, react));
  }
  const resized = new ResizeObserver(() => { if (shown >= 0) timer ||= setTimeout(flush, BATCH); });
  resized.observe(grid);
  cleanup.push(() => { resized.disconnect(); links.forEach((link) => URL.revokeObjectURL(link)); });
  show();
}

export default {
  render({ model, el }) {
    const cleanup = [];
    const grid = make("div", "xf-picks", el);
    grid.setAttribute("role", "group");
    // the view is made before it is put into the page: wait for the container
    const seek = setInterval(() => {
      const root = grid.closest(".xf-root");
      if (!root) return;
      clearInterval(seek);
      attach(model, grid, root, cleanup);
    }, 20);
    cleanup.push(() => clearInterval(seek));
    return () => { for (const undo of cleanup) undo(); };
  },
};
