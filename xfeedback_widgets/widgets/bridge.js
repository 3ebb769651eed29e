// What ipywidgets cannot do for itself, inside the page: hot-keys, focus, names for screen readers,
// hiding the map while a key is held, the size of the page, and the pointer's path. It acts only inside the container
// (class "xf-root") it was placed in. Pointers that draw are drawing/ink.js's.

const TEXT = "input:not([type=checkbox]):not([type=radio]):not([type=button]), textarea, select, [contenteditable=true]";
const CONTROL = `${TEXT}, input, button, summary, [role=slider], [role=tab]`;
const ENDINGS = ["Enter", "Escape", "Backspace"]; // of a shape that is being drawn
const SAMPLE = 1000 / 60; // milliseconds between two places of the pointer
const PATH = 500; // and between two messages about them
const SWALLOWED = ["mousemove", "mousedown", "mouseup", "mouseout", "wheel", "touchstart", "touchmove", "touchend"];

const printable = (event) => event.key.length === 1;
// AltGr writes characters, "[" for example; Windows reports it as Ctrl and Alt
const modified = (event) =>
  event.metaKey || ((event.ctrlKey || event.altKey) && !event.getModifierState("AltGraph"));
const nameOf = (event) => {
  const letter = event.key.toLowerCase() !== event.key.toUpperCase() && printable(event);
  const key = event.key === " " ? "space" : event.key.toLowerCase();
  return event.shiftKey && (letter || !printable(event)) ? `shift+${key}` : key;
};
const now = () => performance.timeOrigin + performance.now();

function attach(model, root, cleanup) {
  const listen = (target, type, handler, options) => {
    target.addEventListener(type, handler, options);
    cleanup.push(() => target.removeEventListener(type, handler, options));
  };
  const inside = (node) => node instanceof Node && root.contains(node);
  const peek = (on) => root.classList.toggle("xf-peeking", on);

  // keys: on window, in the capture phase, so that neither the notebook nor a canvas sees them first
  listen(window, "keydown", (event) => {
    if (!inside(event.target)) return;
    sendPath();
    if (event.key === "Tab") {
      if (event.target.tagName === "CANVAS") event.stopPropagation(); // ipycanvas would keep the focus
      return;
    }
    if (ENDINGS.includes(event.key) && root.querySelector(".xf-open-shape")) return;
    // Ctrl, Alt and Meta shortcuts and Shift+Enter stay the notebook's; all other keys stay here
    const ours = !modified(event) && !(event.key === "Enter" && event.shiftKey);
    root.toggleAttribute("data-lm-suppress-shortcuts", ours);
    if (!ours) return;
    const typing = event.target.closest(TEXT);
    const unused = (printable(event) && event.key !== " ") || (/^(Arrow|Page)/.test(event.key) && event.target.tagName === "BUTTON");
    const native = typing || (event.target.closest(CONTROL) && !unused);
    if (native) return;
    const name = nameOf(event);
    if (name === model.get("peek_key")) {
      peek(true);
    } else if (model.get("hot_keys").includes(name)) {
      if (!event.repeat || model.get("repeating_keys").includes(name))
        model.send({ kind: "key", key: name, time: now() });
    } else if (!printable(event)) {
      return;
    }
    event.preventDefault();
    event.stopImmediatePropagation();
  }, true);
  listen(window, "keyup", (event) => {
    if (nameOf(event).replace("shift+", "") === model.get("peek_key")) peek(false);
  }, true);
  listen(window, "blur", () => peek(false));
  listen(root, "keydown", (event) => {
    if (root.hasAttribute("data-lm-suppress-shortcuts") && event.key !== "Tab") event.stopPropagation();
  });

  // focus: a mouse click on a button leaves the focus on the container, where every key works;
  // when the focused button is disabled or hidden, the focus does not fall out of the widget
  let held = false;
  root.tabIndex = 0;
  listen(root, "focusin", () => { held = true; });
  listen(root, "focusout", (event) => { if (event.relatedTarget && !inside(event.relatedTarget)) held = false; });
  listen(window, "pointerdown", (event) => { if (!inside(event.target)) held = false; }, true);
  listen(root, "click", (event) => {
    const control = event.target.closest(CONTROL);
    const byMouse = event.detail > 0;
    if (event.target.closest(".xf-patch")) return; // a tapped patch shows its picture while it has the focus
    if (byMouse && (!control || control.tagName === "BUTTON")) root.focus({ preventScroll: true });
  });

  // canvases: no messages for mere mouse movement, and the wheel scrolls the page
  for (const type of SWALLOWED)
    listen(root, type, (event) => {
      if (event.target.tagName === "CANVAS") event.stopPropagation();
    }, { capture: true, passive: true });
  listen(root, "click", (event) => {
    const picked = event.target.closest("[data-pick]");
    if (picked) model.send({ kind: "pick", time: now(), name: picked.dataset.pick, count: event.detail });
    const stage = event.target.closest(".xf-clickable");
    if (!stage) return;
    const box = stage.getBoundingClientRect();
    model.send({
      kind: "click", time: now(), count: event.detail,
      x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height,
    });
  });

  // the pointer's path over the picture that is judged or drawn on, where it is to be kept; whoever answers
  // has sent it before
  let path = [], pathTimer = 0, resting = null, restTimer = 0, sampled = -Infinity, since = performance.now(), traced = model.get("traced");
  const sendPath = () => {
    settle();
    clearTimeout(pathTimer);
    pathTimer = 0;
    if (path.length) model.send({ kind: "path", name: traced }, undefined, [new Float32Array(path).buffer]);
    path = [];
  };
  const place = (picture, event, at) => {
    sampled = at;
    const box = picture.getBoundingClientRect();
    path.push((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height, Math.max(0, Math.round(at - since)));
    pathTimer ||= setTimeout(sendPath, PATH);
  };
  const settle = () => {
    clearTimeout(restTimer);
    if (resting) place(...resting);
    resting = null;
  };
  const retrace = () => {
    sendPath();
    traced = model.get("traced");
    since = performance.now();
  };
  listen(root, "pointermove", (event) => {
    const picture = traced && event.target.closest(".xf-traced")?.querySelector(".xf-picture");
    resting = null;
    clearTimeout(restTimer);
    if (!picture) return;
    const early = SAMPLE - (event.timeStamp - sampled);
    if (early <= 0) place(picture, event, event.timeStamp);
    else { // kept if the pointer stays, or something is pressed
      resting = [picture, event, sampled + SAMPLE];
      restTimer = setTimeout(settle, early);
    }
  }, true);
  for (const type of ["pointerdown", "pointerup"]) listen(root, type, sendPath, true);
  model.on("change:traced", retrace);
  cleanup.push(() => { model.off("change:traced", retrace); clearTimeout(pathTimer); clearTimeout(restTimer); });

  // names for screen readers: ipywidgets has no aria attributes, so they are put on by selector
  const describe = () => {
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", model.get("label"));
    root.setAttribute("aria-keyshortcuts", model.get("hot_keys").join(" "));
    for (const [selector, name] of Object.entries(model.get("names")))
      for (const node of root.querySelectorAll(selector)) node.setAttribute("aria-label", name);
    for (const canvas of root.querySelectorAll("canvas")) canvas.tabIndex = -1;
    for (const canvas of root.querySelectorAll("canvas.xf-picture")) canvas.setAttribute("role", "img");
    for (const canvas of root.querySelectorAll("canvas.xf-overlay")) canvas.setAttribute("aria-hidden", "true");
  };
  let pending = 0;
  const observer = new MutationObserver(() => {
    if (held && document.activeElement === document.body) root.focus({ preventScroll: true });
    clearTimeout(pending);
    pending = setTimeout(describe, 50);
  });
  const watched = { childList: true, subtree: true, attributes: true, attributeFilter: ["disabled", "style"] };
  observer.observe(root, watched);
  cleanup.push(() => { observer.disconnect(); clearTimeout(pending); });
  model.on("change:names", describe);
  cleanup.push(() => model.off("change:names", describe));
  describe();

  // size: layout is decided in Python from the width that is really there
  let last = "";
  let timer = 0;
  const measure = () => {
    const size = { kind: "size", width: Math.round(root.clientWidth), ratio: window.devicePixelRatio || 1 };
    if (size.width > 0 && JSON.stringify(size) !== last) {
      last = JSON.stringify(size);
      model.send(size);
    }
  };
  const resized = new ResizeObserver(() => { clearTimeout(timer); timer = setTimeout(measure, 100); });
  resized.observe(root);
  cleanup.push(() => { resized.disconnect(); clearTimeout(timer); });
  let screen = null; // a window can move to one with other pixels
  const watch = () => {
    screen?.removeEventListener("change", watch);
    screen = window.matchMedia(`(resolution: ${window.devicePixelRatio}dppx)`);
    screen.addEventListener("change", watch);
    measure();
  };
  cleanup.push(() => screen.removeEventListener("change", watch));
  watch();
}

export default {
  render({ model, el }) {
    const cleanup = [];
    const live = document.createElement("div");
    live.className = "xf-live";
    live.setAttribute("role", "status");
    live.setAttribute("aria-live", "polite");
    el.appendChild(live);
    const announce = () => { live.textContent = model.get("announcement"); };
    model.on("change:announcement", announce);
    cleanup.push(() => model.off("change:announcement", announce));
    announce();
    // the view is made before it is put into the page: wait for the container
    const seek = setInterval(() => {
      const root = el.closest(".xf-root");
      if (!root) return;
      clearInterval(seek);
      attach(model, root, cleanup);
    }, 20);
    cleanup.push(() => clearInterval(seek));
    return () => { for (const undo of cleanup) undo(); };
  },
};
