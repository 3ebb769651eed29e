// The tagging page: a picture, and icons that are dragged onto it, or put there by keys. It acts at once and
// by itself and notes what happens as rows (what, which, x, y, by key, time), which it sends in batches. What
// is not acknowledged yet looks unsaved. Going from picture to picture is ipywidgets'.

const PATH = 0, PUT = 1, TAKE = 2, GROUP = 3, OPEN = 4; // as in tracer.py
const BATCH = 250; // milliseconds between two messages
const SAMPLE = 1000 / 60; // between two places of the pointer
const STILL = 4; // CSS pixels below which a press is a click and not a drag
const TALLEST = 480; // CSS pixels
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const timeOf = (event) => Math.round(performance.timeOrigin + event.timeStamp);
const now = () => Math.round(performance.timeOrigin + performance.now());
const make = (tag, className, parent, text = "") => {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  if (tag === "button") node.type = "button";
  parent.appendChild(node);
  return node;
};
const between = (low, value, high) => Math.min(high, Math.max(low, value));

function attach(model, desk, root, cleanup) {
  const source = Math.random().toString(36).slice(2, 10);
  const board = make("div", "xf-board", desk);
  const photo = make("img", "xf-photo", board);
  const pins = make("div", "xf-pins", board);
  const side = make("div", "xf-palette", desk);
  const tabs = make("div", "xf-groups", side);
  const panel = make("div", "xf-icons", side);
  const ghost = make("div", "xf-ghost", desk);
  const live = make("div", "xf-live", desk);
  const name = `xf-${source}`;
  board.tabIndex = -1;
  board.setAttribute("role", "group");
  photo.draggable = false;
  tabs.setAttribute("role", "tablist");
  tabs.setAttribute("aria-label", "Groups of icons");
  panel.setAttribute("role", "tabpanel");
  panel.id = `${name}-panel`;
  live.setAttribute("role", "status");
  live.setAttribute("aria-live", "polite");

  let shown = -1; // number of the picture on screen
  let link = "";
  let group = 0, at = 0; // the open group, and the icon of it that Tab leads to
  let rows = [], count = 0, timer = 0, place = "", last = -Infinity;
  let pending = []; // what was put or taken and is not acknowledged, oldest first
  let drag = null; // an icon under a pointer
  let armed = null; // an icon that keys move, or that the next click puts
  let dragged = false;

  const listen = (target, type, handler, options) => {
    target.addEventListener(type, handler, options);
    cleanup.push(() => target.removeEventListener(type, handler, options));
  };
  const icons = () => model.get("icons");
  const titleOf = (icon) => icons()[icon].name;

  // ---------------------------------------------------------------- what is sent

  const note = (what, which, [x, y], byKey, time) => {
    rows.push(what, which, x, y, byKey ? 1 : 0, time);
    timer ||= setTimeout(flush, BATCH);
  };
  const flush = (always = false) => {
    clearTimeout(timer);
    timer = 0;
    if (shown < 0 || !(rows.length || always)) return;
    const box = photo.getBoundingClientRect();
    const here = [[0, 0, box.width, box.height].map((value) => Math.round(value * 100) / 100)];
    const moved = box.width > 0 && JSON.stringify(here) !== place;
    if (moved) place = JSON.stringify(here);
    const part = new Float64Array(rows);
    rows = [];
    model.send({ kind: "batch", source, number: ++count, visit: shown, places: moved ? here : [], time: now() }, undefined, [part.buffer]);
  };
  // before anything else hears of a press, Python has heard of what was before it, and how long it took
  for (const type of ["pointerdown", "keydown"])
    listen(root, type, (event) => { if (!desk.contains(event.target)) flush(true); }, true);
  listen(window, "pagehide", () => flush());
  listen(document, "visibilitychange", () => flush());
  cleanup.push(() => flush());

  // ---------------------------------------------------------------- what is shown

  const placed = () => {
    const known = model.get("placed");
    const found = new Map(known.visit === shown ? Object.entries(known.icons).map(([icon, spot]) => [Number(icon), spot]) : []);
    for (const each of pending)
      if (each.visit === shown) { if (each.spot) found.set(each.icon, each.spot); else found.delete(each.icon); }
    return found;
  };
  const face = (parent, icon) => {
    make("span", "xf-face", parent, icons()[icon].face).setAttribute("aria-hidden", "true");
    make("span", "xf-name", parent, titleOf(icon));
  };
  const paintPins = () => {
    const found = placed(), focused = pins.contains(document.activeElement) ? document.activeElement.closest(".xf-pin") : null;
    for (const pin of [...pins.children]) if (!found.has(Number(pin.dataset.icon))) pin.remove();
    for (const [icon, [x, y]] of found) {
      let pin = pins.querySelector(`[data-icon="${icon}"]`);
      if (!pin) {
        pin = make("div", "xf-pin", pins);
        pin.dataset.icon = icon;
        const button = make("button", "xf-placed", pin);
        face(button, icon);
        const off = make("button", "xf-off", pin, "×");
        off.tabIndex = -1;
        off.title = `Remove ${titleOf(icon)}`;
        off.setAttribute("aria-label", off.title);
      }
      pin.style.left = `${100 * x}%`;
      pin.style.top = `${100 * y}%`;
      pin.classList.toggle("xf-at-left", x < 0.16);
      pin.classList.toggle("xf-at-right", x > 0.84);
      pin.classList.toggle("xf-at-bottom", y > 0.88);
      pin.classList.toggle("xf-unsaved", pending.some((each) => each.visit === shown && each.icon === icon));
      pin.firstChild.setAttribute("aria-label", `${titleOf(icon)}, at ${Math.round(100 * x)} % from the left, ${Math.round(100 * y)} % from the top; Enter moves it, Delete removes it`);
    }
    if (focused && !focused.isConnected) focusIcon(Number(focused.dataset.icon));
    for (const button of panel.querySelectorAll(".xf-icon")) {
      const on = found.has(Number(button.dataset.icon));
      button.classList.toggle("xf-used", on);
      button.setAttribute("aria-pressed", on);
    }
  };
  const paintIcons = () => {
    const groups = model.get("groups");
    group = Math.min(group, groups.length - 1);
    tabs.replaceChildren();
    panel.replaceChildren();
    tabs.style.display = groups.length > 1 ? "" : "none";
    groups.forEach((each, number) => {
      const tab = make("button", "xf-group", tabs, each.name);
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", panel.id);
      tab.setAttribute("aria-selected", number === group);
      tab.id = `${name}-${number}`;
      tab.tabIndex = number === group ? 0 : -1;
    });
    panel.setAttribute("aria-labelledby", `${name}-${group}`);
    at = Math.min(at, (groups[group]?.icons.length ?? 1) - 1);
    (groups[group]?.icons ?? []).forEach((icon, number) => {
      const button = make("button", "xf-icon", panel);
      button.dataset.icon = icon;
      button.tabIndex = number === at ? 0 : -1;
      button.title = titleOf(icon);
      face(button, icon);
    });
    paintPins();
  };
  const focusIcon = (icon) => {
    const buttons = [...panel.querySelectorAll(".xf-icon")];
    const number = buttons.findIndex((button) => Number(button.dataset.icon) === icon);
    at = Math.max(0, number);
    buttons.forEach((button, each) => { button.tabIndex = each === at ? 0 : -1; });
    buttons[at]?.focus({ preventScroll: true });
  };
  const show = () => {
    const visit = model.get("visit"), data = model.get("picture");
    board.setAttribute("aria-label", model.get("label"));
    desk.classList.toggle("xf-ended", visit < 0);
    if (visit === shown) return paintPins();
    flush();
    disarm();
    drag = null;
    shown = visit;
    place = "";
    delete desk.dataset.visit;
    URL.revokeObjectURL(link);
    link = visit >= 0 && data.byteLength ? URL.createObjectURL(new Blob([data])) : "";
    if (!link) { photo.removeAttribute("src"); return paintPins(); }
    const [width, height] = model.get("size");
    board.style.width = `min(100%, ${(TALLEST * width) / height}px)`;
    board.style.aspectRatio = `${width} / ${height}`;
    photo.classList.toggle("xf-pixels", width <= 96);
    photo.alt = "";
    photo.src = link;
    photo.decode().catch(() => {}).then(() => {
      if (shown !== visit) return;
      note(OPEN, 0, [0, 0], false, now());
      desk.dataset.visit = visit; // it can be seen
      flush();
    });
    paintPins();
  };

  // ---------------------------------------------------------------- what is done

  const put = (icon, spot, byKey, time) => {
    const inside = spot.map((value) => between(0, value, 1));
    pending.push({ number: count + 1, visit: shown, icon, spot: inside });
    note(PUT, icon, inside, byKey, time);
    paintPins();
    live.textContent = `${titleOf(icon)} is on the picture`;
  };
  const take = (icon, byKey, time) => {
    if (!placed().has(icon)) return;
    pending.push({ number: count + 1, visit: shown, icon, spot: null });
    note(TAKE, icon, [0, 0], byKey, time);
    paintPins();
    live.textContent = `${titleOf(icon)} is off the picture`;
  };
  const openGroup = (number, byKey, time) => {
    if (number === group) return;
    group = number;
    at = 0;
    note(GROUP, number, [0, 0], byKey, time);
    paintIcons();
    tabs.children[group].focus({ preventScroll: true });
  };

  // ---------------------------------------------------------------- pointers

  const spotOf = (event) => {
    const box = photo.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  const isInside = ([x, y]) => x >= 0 && x <= 1 && y >= 0 && y <= 1;
  const moveGhost = (icon, [left, top]) => {
    if (ghost.dataset.icon !== String(icon)) {
      ghost.dataset.icon = icon;
      ghost.replaceChildren();
      face(ghost, icon);
    }
    ghost.style.left = `${left}px`;
    ghost.style.top = `${top}px`;
    ghost.classList.add("xf-on");
  };
  const within = ([x, y]) => {
    const box = photo.getBoundingClientRect(), corner = desk.getBoundingClientRect();
    return [box.left - corner.left + x * box.width, box.top - corner.top + y * box.height];
  };
  const iconOf = (node) => Number(node.closest("[data-icon]").dataset.icon);

  listen(desk, "pointerdown", (event) => {
    dragged = false;
    const grip = event.target.closest(".xf-icon, .xf-placed");
    if (!grip || event.button !== 0 || shown < 0 || drag) return;
    drag = { icon: iconOf(grip), pointer: event.pointerId, from: [event.clientX, event.clientY], grip };
    try { grip.setPointerCapture(event.pointerId); } catch { /* it has been lifted already */ }
  });
  listen(desk, "pointermove", (event) => {
    const spot = spotOf(event), time = timeOf(event);
    if (shown >= 0 && isInside(spot) && time - last >= SAMPLE) {
      last = time;
      note(PATH, 0, spot, false, time);
    }
    if (drag?.pointer !== event.pointerId) return;
    const way = Math.hypot(event.clientX - drag.from[0], event.clientY - drag.from[1]);
    if (!drag.moved && way < STILL) return;
    if (!drag.moved) disarm();
    drag.moved = true;
    drag.grip.classList.add("xf-lifted");
    moveGhost(drag.icon, within(spot));
    ghost.classList.toggle("xf-outside", !isInside(spot));
  });
  const drop = (event) => {
    if (drag?.pointer !== event.pointerId) return;
    const { icon, moved, grip } = drag;
    drag = null;
    grip.classList.remove("xf-lifted");
    if (!moved) return;
    dragged = true;
    ghost.classList.remove("xf-on", "xf-outside");
    if (event.type !== "pointerup") return;
    const spot = spotOf(event);
    if (isInside(spot)) put(icon, spot, false, timeOf(event));
    else if (grip.matches(".xf-placed")) take(icon, false, timeOf(event));
  };
  for (const type of ["pointerup", "pointercancel"]) listen(desk, type, drop);
  listen(desk, "click", (event) => {
    event.stopPropagation(); // the focus stays here
    if (dragged || shown < 0) { dragged = false; return; }
    const byKey = event.detail === 0, node = event.target;
    if (node.closest(".xf-off")) take(iconOf(node), byKey, timeOf(event));
    else if (node.closest(".xf-group")) openGroup([...tabs.children].indexOf(node.closest(".xf-group")), byKey, timeOf(event));
    else if (node.closest(".xf-icon")) arm(iconOf(node), node.closest(".xf-icon"));
    else if (node.closest(".xf-placed")) { if (byKey) arm(iconOf(node), node.closest(".xf-placed")); }
    else if (armed && node.closest(".xf-board")) {
      const { icon } = armed;
      disarm();
      put(icon, spotOf(event), false, timeOf(event));
    }
  });

  // ---------------------------------------------------------------- keys

  const arm = (icon, back) => {
    armed = { icon, back, spot: placed().get(icon) ?? [0.5, 0.5] };
    desk.classList.add("xf-open-shape", "xf-arming"); // the bridge leaves Enter and Escape to us then
    board.focus({ preventScroll: true });
    moveGhost(icon, within(armed.spot));
    live.textContent = `${titleOf(icon)}: arrow keys move it, Shift for small steps, Enter puts it there, Escape gives up; or click the place`;
  };
  const disarm = () => {
    if (!armed) return;
    const { back } = armed;
    armed = null;
    desk.classList.remove("xf-open-shape", "xf-arming");
    ghost.classList.remove("xf-on");
    if (document.activeElement === board && back.isConnected) back.focus({ preventScroll: true });
  };
  const steer = (event) => {
    const move = MOVES[event.key];
    if (!armed || !root.contains(event.target) || event.ctrlKey || event.altKey || event.metaKey) return;
    if (move) {
      const step = event.shiftKey ? 0.01 : 0.05;
      armed.spot = armed.spot.map((value, axis) => Math.round(between(0, value + step * move[axis], 1) * 100) / 100);
      moveGhost(armed.icon, within(armed.spot));
    } else if (event.key === "Enter" && document.activeElement === board) {
      const { icon, spot } = armed;
      disarm();
      put(icon, spot, true, timeOf(event));
    } else if (event.key === "Escape") {
      disarm();
      live.textContent = "Given up";
    } else return;
    event.preventDefault();
    event.stopImmediatePropagation();
  };
  listen(window, "keydown", steer, true);
  listen(board, "focusout", (event) => { if (event.relatedTarget && event.relatedTarget !== board) disarm(); });
  listen(desk, "keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || shown < 0) return;
    const move = MOVES[event.key], node = event.target;
    if (node.matches(".xf-group") && move) {
      const next = group + move[0] + move[1];
      if (next >= 0 && next < tabs.children.length) openGroup(next, true, timeOf(event));
    } else if (node.matches(".xf-icon") && (move || event.key === "Home" || event.key === "End")) {
      const buttons = [...panel.children];
      const second = buttons.findIndex((button) => button.offsetTop > buttons[0].offsetTop);
      const columns = second > 0 ? second : buttons.length;
      const next = move ? at + move[0] + columns * move[1] : event.key === "Home" ? 0 : buttons.length - 1;
      if (next >= 0 && next < buttons.length) focusIcon(Number(buttons[next].dataset.icon));
    } else if (node.matches(".xf-placed, .xf-icon") && (event.key === "Delete" || event.key === "Backspace")) {
      take(iconOf(node), true, timeOf(event));
    } else return;
    event.preventDefault();
  });

  // ---------------------------------------------------------------- what comes from the kernel

  const follow = () => {
    const written = model.get("acknowledged")[source] ?? 0;
    pending = pending.filter((each) => each.number > written);
    paintPins();
  };
  const reactions = { visit: show, picture: show, label: show, placed: paintPins, acknowledged: follow, groups: paintIcons };
  for (const [trait, react] of Object.entries(reactions)) {
    model.on(`change:${trait}`, react);
    cleanup.push(() => model.off(`change:${trait}`, react));
  }
  const resized = new ResizeObserver(() => { if (armed) moveGhost(armed.icon, within(armed.spot)); });
  resized.observe(board);
  cleanup.push(() => { resized.disconnect(); URL.revokeObjectURL(link); });
  paintIcons();
  show();
}

export default {
  render({ model, el }) {
    const cleanup = [];
    const desk = make("div", "xf-tagging", el);
    // the view is made before it is put into the page: wait for the container
    const seek = setInterval(() => {
      const root = desk.closest(".xf-root");
      if (!root) return;
      clearInterval(seek);
      attach(model, desk, root, cleanup);
    }, 20);
    cleanup.push(() => clearInterval(seek));
    return () => { for (const undo of cleanup) undo(); };
  },
};
