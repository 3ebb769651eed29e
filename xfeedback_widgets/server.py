"""A Jupyter server extension: what a kernel says reaches the page at once.

The server's sockets hold small messages back until the browser has acknowledged the one before (Nagle's
algorithm), and a browser may take 40 ms for that: of a press, nearly as much as everything else. This
switches that off for the sockets of kernels (``TCP_NODELAY``) and does nothing else. It is switched on with
the package where the package is installed beside the server; ``jupyter server extension disable
xfeedback_widgets.server`` switches it off. Nothing here is imported by a kernel.
"""

from __future__ import annotations

from typing import Any

__all__: list[str] = []

_SETTING = "kernel_websocket_connection_class"


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(app: Any) -> None:
    """Let the sockets of kernels, of whatever class the server uses, send without delay."""
    settings = app.web_app.settings
    connection = settings.get(_SETTING)
    if connection is not None:  # Jupyter Server before 2.4 has no such class
        settings[_SETTING] = _prompt(connection)


def _prompt(connection: type) -> type:
    class Prompt(connection):  # type: ignore[misc]
        async def connect(self) -> Any:
            self.websocket_handler.set_nodelay(True)
            return await super().connect()

    return Prompt
