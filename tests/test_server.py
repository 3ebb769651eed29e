"""The Jupyter server extension, in a real server and on a real socket."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import xfeedback_widgets.server as extension

tornado = pytest.importorskip("tornado")
pytest.importorskip("jupyter_server")


def test_it_is_switched_on_with_the_package():
    package = Path(extension.__file__).parent
    config = json.loads((package / "server.json").read_text())
    assert config["ServerApp"]["jpserver_extensions"] == {extension.__name__: True}
    listed = subprocess.run(
        [sys.executable, "-m", "jupyter_server.extension.serverextension", "list"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(package.parent)},
    )
    said = re.sub(r"\x1b\[\d+m", "", listed.stdout + listed.stderr)
    assert re.search(rf"{extension.__name__} +enabled", said)
    assert re.search(rf"{extension.__name__} +OK", said)


def test_the_sockets_of_kernels_send_without_delay():
    from tornado import httpserver, ioloop, testing, web, websocket

    seen = []

    class Connection:
        def __init__(self, websocket_handler):
            self.websocket_handler = websocket_handler

        async def connect(self):
            seen.append("connected")

    class Handler(websocket.WebSocketHandler):
        async def open(self):
            await self.settings["kernel_websocket_connection_class"](self).connect()
            stream = self.ws_connection.stream
            seen.append(stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            self.close()

    async def talk(app):
        server, (sock, port) = httpserver.HTTPServer(app), testing.bind_unused_port()
        server.add_sockets([sock])
        page = await websocket.websocket_connect(f"ws://127.0.0.1:{port}/")
        await page.read_message()
        server.stop()

    app = web.Application([("/", Handler)], kernel_websocket_connection_class=Connection)
    loop = ioloop.IOLoop(make_current=False)
    loop.run_sync(lambda: talk(app))
    extension._load_jupyter_server_extension(SimpleNamespace(web_app=app))
    loop.run_sync(lambda: talk(app))
    loop.close()
    assert seen == ["connected", 0, "connected", 1]


def test_a_server_without_such_connections_is_left_alone():
    app = SimpleNamespace(web_app=SimpleNamespace(settings={}))
    extension._load_jupyter_server_extension(app)
    assert app.web_app.settings == {}
