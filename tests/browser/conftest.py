"""A real JupyterLab in headless Chromium, isolated in a temporary folder; screenshots are kept.

Not found a browser: the tests are skipped and say so, and fail where the environment sets CI.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "artifacts" / "browser"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


DEBUG_PORT = _free_port()
CHROMIUM_FLAGS = [
    f"--remote-debugging-port={DEBUG_PORT}",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# What every notebook of these tests begins with: real digits whose class can be read from a bright
# corner, and a small network that has learned to do so.
SETUP = """
import os, tempfile, torch
from torch import nn
from sklearn.datasets import load_digits
from xfeedback_widgets.corrections import CrayonAttention
from xfeedback_widgets.data import ImageSet
from xfeedback_widgets.session import Session
from xfeedback_widgets.widgets import ReviewWidget

torch.manual_seed(0)
digits = load_digits()
count = 240
images = nn.functional.interpolate(torch.tensor(digits.images[:count, None] / 16).float(), size=32)
labels = torch.tensor(digits.target[:count])
for image, label in zip(images, labels):
    image[0, :6, 3 * int(label) : 3 * int(label) + 3] = 1.0
model = nn.Sequential(
    nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
)
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
for _ in range(60):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()
names = [str(n) for n in range(10)]
data = ImageSet(list(zip(images, labels.tolist())), ids=[f"digit-{i}" for i in range(count)],
                class_names=names)
"""
# Names that are HTML, too long, or in other scripts; a script among them that ran would set `hacked`.
HOSTILE = """
names = ["<b>zero</b>", "🐱 cat", "<img src=x onerror='window.hacked=1'>", 'quote " and \\' both', "&amp;",
         "a" * 90, "</td><script>window.hacked=1</script>", "naïve ünïcode", "  spaces  ", "日本語"]
"""
OPEN = """
directory = tempfile.mkdtemp(dir=".")
session = Session(model, data, directory, CrayonAttention(), data, annotator="me", epochs=2)
widget = ReviewWidget(session)
widget
"""


def find_chromium() -> str | None:
    for name in ("XFEEDBACK_CHROMIUM", "CHROMIUM"):
        if os.environ.get(name):
            return os.environ[name]
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    return None


@pytest.fixture(scope="session")
def browser():
    executable = find_chromium()
    if executable is None:
        reason = "NO BROWSER: the tests of what people see did not run (install Debian's chromium)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    sync_api = pytest.importorskip("playwright.sync_api")
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


class Server:
    """A Jupyter server on a folder of its own."""

    def __init__(self, folder: Path, command: str = "lab", *arguments: str) -> None:
        self.folder = folder
        self.work = folder / "work"
        self.work.mkdir(parents=True)
        self.port = _free_port()
        self.tree = {"lab": "lab/tree", "notebook": "notebooks", "voila": "voila/render"}[command]
        self.url = f"http://127.0.0.1:{self.port}"
        places = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "IPYTHONDIR": "ipython",
        }
        for name in places.values():
            (folder / name).mkdir()
        overrides = folder / "settings" / "@jupyterlab" / "apputils-extension"
        overrides.mkdir(parents=True)
        (overrides / "notification.jupyterlab-settings").write_text(
            '{"fetchNews": "false", "checkForUpdates": false}'
        )
        self.environment = {
            **os.environ,
            **{key: str(folder / name) for key, name in places.items()},
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        }
        flags = {
            "lab": [
                "--LabApp.expose_app_in_browser=True",
                "--LabApp.news_url=None",
                "--LabApp.extension_manager=readonly",
            ],
            "notebook": ["--JupyterNotebookApp.expose_app_in_browser=True"],
        }.get(command, [])
        shared = [
            "--no-browser",
            f"--port={self.port}",
            "--IdentityProvider.token=",
            "--ServerApp.password=",
            "--ServerApp.allow_root=True",
            f"--ServerApp.root_dir={self.work}",
        ]
        if command == "voila":
            shared = ["--no-browser", f"--port={self.port}"]
        self.log = (folder / "server.log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", *_MODULES[command], *shared, *flags, *arguments],
            cwd=self.work,
            env=self.environment,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        self._wait()

    def _wait(self, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(self.url, timeout=2).close()
            except urllib.error.HTTPError:
                return  # an empty Voila has no front page, but it answers
            except OSError:
                pass
            else:
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError(f"no server: {(self.folder / 'server.log').read_text()[-2000:]}")

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def notebook(self, name: str, cells: list[str], kernel: str = "python3") -> Path:
        """Write a notebook of code cells."""
        import nbformat

        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source.strip()) for source in cells],
            metadata={"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}},
        )
        path = self.work / f"{name}.ipynb"
        nbformat.write(notebook, path)
        return path

    def sessions(self) -> list[dict]:
        with urllib.request.urlopen(f"{self.url}/api/sessions", timeout=10) as answer:
            return json.load(answer)

    def shut_down_kernels(self) -> None:
        for session in self.sessions():
            request = urllib.request.Request(
                f"{self.url}/api/sessions/{session['id']}", method="DELETE"
            )
            with contextlib.suppress(OSError):
                urllib.request.urlopen(request, timeout=20).close()


_MODULES = {"lab": ["jupyterlab"], "notebook": ["notebook"], "voila": ["voila"]}


@pytest.fixture(scope="session")
def start_server(tmp_path_factory):
    """Start further servers: ``start_server("notebook")``."""
    servers = []

    def start(command: str, *arguments: str) -> Server:
        servers.append(Server(tmp_path_factory.mktemp(command) / "jupyter", command, *arguments))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def lab(start_server) -> Server:
    return start_server("lab")


class Scene:
    """A notebook on screen: what a person does in it, and a second line into its kernel."""

    def __init__(self, browser, server: Server, name: str, width: int = 1280) -> None:
        self.server, self.name = server, name
        self.context = browser.new_context(viewport={"width": width, "height": 1500})
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self._client = None

    def open(self, page=None) -> None:
        page = page or self.page
        page.goto(f"{self.server.url}/{self.server.tree}/{self.name}.ipynb?reset")
        page.wait_for_function(
            "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
            timeout=60_000,
        )

    def run_all(self) -> None:
        self.page.locator(".lm-MenuBar-item", has_text="Run").first.click()
        self.page.locator(".lm-Menu-itemLabel", has_text="Run All Cells").first.click()

    def execute_cells(self, first: int, count: int = 1) -> None:
        """Run cells as Shift+Enter does, without waiting for them."""
        self.page.evaluate(
            f"window.jupyterapp.shell.currentWidget.content.activeCellIndex = {first}"
        )
        run = "window.jupyterapp.commands.execute('notebook:run-cell-and-select-next')"
        for _ in range(count):
            self.page.evaluate(f"void {run}")  # its promise would wait for the cell
            self.page.wait_for_timeout(50)

    def watch(self, milliseconds: int) -> dict[str, list]:
        """Look at the training panel and at the map ten times a second, in the page alone."""
        return self.page.evaluate(WATCH, milliseconds)

    def start(self, painted: str = "", timeout: int = 40_000) -> None:
        """Open the notebook, run it, wait for the picture and its map, or for what `painted` says."""
        self.open()
        self.run_all()
        self.wait_painted(painted=painted, timeout=timeout)

    def collapse_left(self) -> None:
        """Leave all the width to the notebook."""
        self.page.evaluate("window.jupyterapp.shell.collapseLeft()")

    def wait_painted(self, page=None, timeout: int = 40_000, painted: str = "") -> None:
        page = page or self.page
        try:
            page.wait_for_function(painted or PAINTED, timeout=timeout)
        except Exception:
            self.shot(f"failed-{self.name}", page, whole=True)
            raise

    @property
    def root(self):
        return self.page.locator(".xf-root").first

    def button(self, text: str):
        return self.root.get_by_role("button", name=text).first

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)

    def focus(self) -> None:
        self.root.evaluate("root => root.focus()")

    def tab_through(self) -> set[str]:
        """Press Tab until the focus has left the widget; return the texts of what had the focus."""
        self.focus()
        texts = set()
        for _ in range(80):
            self.press("Tab")
            inside = "document.querySelector('.xf-root').contains(document.activeElement)"
            if not self.page.evaluate(inside):
                return texts
            texts.add(self.page.evaluate("document.activeElement.textContent.trim()"))
        pytest.fail("Tab never leaves the widget")

    @property
    def cells(self) -> int:
        """How many cells the notebook has: a key that reached it may have made or deleted one."""
        return self.page.evaluate("document.querySelectorAll('.jp-Notebook .jp-Cell').length")

    def nameless(self) -> list[str]:
        """Return what can be pressed, set or looked at and has no name for screen readers."""
        return self.page.evaluate(NAMELESS)

    def cut(self, selector: str, *, texts: bool = True) -> list[str]:
        """Return what juts out of the widget and, if asked, buttons whose text juts out of them."""
        return self.page.evaluate(CUT, [selector, texts])

    def wait_text(self, text: str, where: str = ".xf-root", timeout: int = 15_000) -> None:
        self.page.locator(where).first.get_by_text(text).first.wait_for(timeout=timeout)

    def wait_until(self, expression: str, timeout: float = 15.0):
        """Evaluate in the kernel until it is true."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            if value := self.evaluate(expression):
                return value
            time.sleep(0.05)
        raise AssertionError(f"never true in the kernel: {expression}")

    def shot(self, name: str, page=None, *, whole: bool = False) -> Path:
        path = ARTIFACTS / f"{name}.png"
        page = page or self.page
        if whole:
            page.screenshot(path=str(path))
        else:
            page.locator(".xf-root").first.screenshot(path=str(path))
        return path

    # the second line into the kernel

    @property
    def client(self):
        if self._client is None:
            from jupyter_client import BlockingKernelClient

            session = next(s for s in self.server.sessions() if s["path"] == f"{self.name}.ipynb")
            runtime = Path(self.server.environment["JUPYTER_RUNTIME_DIR"])
            client = BlockingKernelClient(
                connection_file=str(runtime / f"kernel-{session['kernel']['id']}.json")
            )
            client.load_connection_file()
            client.start_channels()
            self._client = client
        return self._client

    def evaluate(self, expression: str, timeout: float = 20.0):
        """Return the value of an expression in the kernel, through JSON."""
        wrapped = f"__import__('json').dumps({expression})"
        reply = self._execute("", {"value": wrapped}, timeout)
        result = reply["content"]["user_expressions"]["value"]
        assert result["status"] == "ok", result
        text = result["data"]["text/plain"]
        return json.loads(__import__("ast").literal_eval(text))

    def execute(self, code: str, timeout: float = 60.0) -> None:
        """Run code in the kernel."""
        reply = self._execute(code, {}, timeout)
        assert reply["content"]["status"] == "ok", reply["content"]

    def _execute(self, code: str, expressions: dict, timeout: float):
        message = self.client.execute(
            code, silent=True, store_history=False, user_expressions=expressions
        )
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            reply = self.client.get_shell_msg(timeout=max(0.1, until - time.monotonic()))
            if reply["parent_header"].get("msg_id") == message:
                return reply
        raise TimeoutError(code or str(expressions))

    def close(self) -> None:
        if self._client is not None:
            self._client.stop_channels()
        self.context.close()
        if self.server.tree != "voila/render":  # Voila ends its kernels itself
            self.server.shut_down_kernels()


class Hand:
    """A mouse, fingers or a pen as fast as real ones: no event waits for the one before.

    Playwright's own mouse waits for a frame per move, so this one has a line of its own to the page.
    """

    def __init__(self, scene: Scene) -> None:
        import websocket  # a dependency of jupyter_server

        with urllib.request.urlopen(f"http://127.0.0.1:{DEBUG_PORT}/json/list") as answer:
            pages = json.load(answer)
        page = next(p for p in pages if f"/{scene.name}.ipynb" in urllib.parse.unquote(p["url"]))
        self._line = websocket.create_connection(
            page["webSocketDebuggerUrl"], suppress_origin=True, timeout=30
        )
        self._sent = 0

    def send(self, events: list[tuple[str, dict]], pause: float = 0.001) -> None:
        """Send events at a steady pace, by default a thousand a second, and wait for them at the end."""
        start, waiting = time.perf_counter(), set()
        for number, (method, parameters) in enumerate(events):
            # asleep, not spinning: the page needs the core more
            time.sleep(max(0.0, start + number * pause - time.perf_counter()))
            self._sent += 1
            waiting.add(self._sent)
            message = {"id": self._sent, "method": method, "params": parameters}
            self._line.send(json.dumps(message))
        while waiting:
            answer = json.loads(self._line.recv())
            assert "error" not in answer, answer
            waiting.discard(answer.get("id"))

    def draw(self, points, kind: str = "mouse", forces=None, pause: float = 0.001) -> None:
        """Press at the first point, move over the others, and lift at the last."""
        if kind == "touch":
            moves = [("touchStart", [points[0]])]
            moves += [("touchMove", [point]) for point in points[1:]]
            self.touch([*moves, ("touchEnd", [])], pause)
            return
        names = ["mousePressed", *["mouseMoved"] * (len(points) - 1)]
        pressures = [{}] * len(points) if forces is None else [{"force": float(f)} for f in forces]
        drag = zip(names, points, pressures, strict=True)
        events = [self._mouse("mouseMoved", points[0], kind, 0)]
        events += [self._mouse(name, point, kind, 1, **force) for name, point, force in drag]
        self.send([*events, self._mouse("mouseReleased", points[-1], kind, 0)], pause)

    def touch(self, moves, pause: float = 0.001) -> None:
        """Send ``(type, points of the fingers)``."""
        self.send(
            [
                (
                    "Input.dispatchTouchEvent",
                    {
                        "type": name,
                        "touchPoints": [
                            {"x": float(x), "y": float(y), "id": i}
                            for i, (x, y) in enumerate(fingers)
                        ],
                    },
                )
                for name, fingers in moves
            ],
            pause,
        )

    @staticmethod
    def _mouse(name: str, point, kind: str, buttons: int, **more) -> tuple[str, dict]:
        x, y = map(float, point)
        event = {"type": name, "x": x, "y": y, "buttons": buttons, "pointerType": kind, **more}
        if name != "mouseMoved" or buttons:
            event |= {"button": "left", "clickCount": 1}
        return "Input.dispatchMouseEvent", event

    def close(self) -> None:
        self._line.close()


# Both canvases of the view on screen hold pixels: the picture, and a map on top.
PAINTED = """() => {
  const seen = [...document.querySelectorAll('.xf-root canvas')].filter(c => c.offsetParent !== null);
  const inked = c => {
    if (!c.width || !c.height) return 0;
    const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    let n = 0;
    for (let i = 3; i < d.length; i += 16) n += d[i] > 0;
    return n;
  };
  return seen.length >= 2 && seen.every(c => inked(c) > 20);
}"""


NAMELESS = """() => [...document.querySelectorAll(
    '.xf-root button, .xf-root select, .xf-root [role=slider], .xf-root canvas[role=img]')]
  .filter(node => !(node.textContent.trim() || node.getAttribute('aria-label') ||
    node.labels?.length || node.title))
  .map(node => node.outerHTML.slice(0, 120))"""


CUT = """([selector, texts]) => {
  const root = document.querySelector('.xf-root'), box = root.getBoundingClientRect();
  return [...root.querySelectorAll(selector)].filter(node => node.offsetParent !== null).filter(node => {
    const own = node.getBoundingClientRect();
    return own.right > box.right + 1 || own.left < box.left - 1 ||
      (texts && node.tagName === 'BUTTON' && node.scrollWidth > node.clientWidth + 1);
  }).map(node => node.outerHTML.slice(0, 120));
}"""


# The text of the training panel and a checksum of the map's pixels, sampled over some time.
WATCH = """async milliseconds => {
  const texts = [], maps = [], until = performance.now() + milliseconds;
  while (performance.now() < until) {
    texts.push(document.querySelector('.xf-training .widget-html').textContent);
    const c = document.querySelector('.xf-single .xf-overlay');
    const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    let sum = 0;
    for (let i = 0; i < d.length; i += 41) sum = (sum * 31 + d[i]) % 1000003;
    maps.push(sum);
    await new Promise(go => setTimeout(go, 100));
  }
  return {texts, maps};
}"""


@contextlib.contextmanager
def _scenes(browser, lab: Server, test: str):
    scenes = []

    def make(cells: list[str], *, width: int = 1280, server: Server = lab) -> Scene:
        name = f"{test}-{len(scenes)}".replace("[", "-").replace("]", "")
        server.notebook(name, cells)
        scenes.append(Scene(browser, server, name, width))
        return scenes[-1]

    try:
        yield make
    finally:
        for made in scenes:
            made.close()


@pytest.fixture
def scene(browser, lab, request):
    """Build and open scenes: ``scene([SETUP, OPEN])``; all is closed after the test."""
    with _scenes(browser, lab, request.node.name) as make:
        yield make


@pytest.fixture(scope="module")
def lasting_scene(browser, lab, request):
    """Build scenes that all tests of a file share."""
    with _scenes(browser, lab, Path(request.node.name).stem) as make:
        yield make


@pytest.fixture
def hand():
    """Lay a hand on a scene: ``hand(lab).draw(points, "pen")``."""
    hands = []

    def lay(on: Scene) -> Hand:
        hands.append(Hand(on))
        return hands[-1]

    yield lay
    for each in hands:
        each.close()


@pytest.fixture
def setup_cell() -> str:
    return SETUP


@pytest.fixture
def hostile_cell() -> str:
    return HOSTILE


@pytest.fixture
def open_cell() -> str:
    return OPEN
