"""All that can be seen and pressed around a labelling page, and how it is painted."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import ipywidgets

from xfeedback_widgets.widgets import keys
from xfeedback_widgets.widgets.board import Board, classed, progress_bar, row
from xfeedback_widgets.widgets.painter import BasePainter
from xfeedback_widgets.widgets.text import escape

if TYPE_CHECKING:
    from collections.abc import Callable

    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.bridge import Bridge
    from xfeedback_widgets.widgets.capture import Capture
    from xfeedback_widgets.widgets.labelling.desk import LabellingDesk
    from xfeedback_widgets.widgets.loader import Loader

TRAINING_KEYS = {
    action: keys.DEFAULTS[action]
    for action in ("train", "pause", "stop", "target_older", "target_newer", "rollback")
}
_KEPT = (
    "The journal keeps what is clicked and where the pointer goes over the pictures, with times. Names are "
    "hashed when byproducts are exported."
)


class LabellingControls(Board):
    """The widgets around a labelling page and their arrangement.

    Parameters
    ----------
    session, bridge, chosen, press
        As for :class:`~.board.Board`.
    page : Capture
    turning : dict of action to (text, tooltip)
        Of the buttons that turn the page.
    """

    def __init__(
        self,
        session: Session,
        bridge: Bridge,
        chosen: dict[str, str],
        press: Callable[[str], None],
        *,
        page: Capture,
        turning: dict[str, tuple[str, str]],
    ) -> None:
        super().__init__(session, bridge, chosen, press)
        self.page = page
        self.summary = ipywidgets.HTML()
        self.bar = progress_bar("xf-answer-bar")
        self.question = classed(ipywidgets.HTML(), "xf-question")
        self.notice = ipywidgets.HTML()
        kept = ipywidgets.HTML(f'<span class="xf-muted">{_KEPT}</span>')
        buttons = [self.button(action, *texts) for action, texts in turning.items()]
        self.children = [
            bridge,
            row([self.summary, self.bar]),
            self.question,
            self.notice,
            page,
            row([*buttons, classed(kept, "xf-kept")]),
            self.status,
            self.training,
        ]


class LabellingPainter(BasePainter):
    """Paints a labelling page and what surrounds it.

    Parameters
    ----------
    session : Session
    desk : LabellingDesk
    controls : LabellingControls
    loader : Loader
    """

    _share: str  # what the bar shows, for screen readers

    def __init__(
        self, session: Session, desk: LabellingDesk, controls: LabellingControls, loader: Loader
    ) -> None:
        super().__init__(session, controls)
        self._desk, self._controls, self._loader = desk, controls, loader

    @abstractmethod
    def _progress(self) -> tuple[int, str]:
        """Return how many pictures are done, and what is said about it, as HTML."""

    def header(self) -> None:
        """Paint how much is done, and whether training will use it."""
        controls, notice = self._controls, _notice(self._session)
        done, controls.summary.value = self._progress()
        controls.bar.max, controls.bar.value = max(1, self._desk.length), done
        controls.notice.value = notice
        controls.notice.layout.display = "" if notice else "none"
        # ipywidgets has no label of its own for them
        controls.bridge.names = {
            ".xf-answer-bar .progress": self._share,
            ".xf-training-bar .progress": "Progress of the training",
        }

    def resend(self) -> None:
        """Send again all that is painted: a dropped message must not leave a wrong screen."""
        self._controls.page.send_state()
        super().resend()


def _notice(session: Session) -> str:
    """Return, as HTML, that training will not use what is captured here; empty where it will."""
    if "points" in session.correction.learns_from:
        return ""
    name = escape(session.correction.name)
    return (
        f'<p class="xf-badge">Training will not use this: the session corrects with {name}. '
        "Set session.correction = xf.corrections.Luab().</p>"
    )
