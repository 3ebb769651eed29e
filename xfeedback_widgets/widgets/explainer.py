"""Maps and pictures, fetched on a thread of their own and kept ready.

A callback never computes a map: it asks here, and gets the answer posted later or, as a rule, finds
the next items already fetched. The newest request of a kind replaces the older ones, and what arrives
for other weights than the live ones is dropped. Nothing here touches a widget.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xfeedback_widgets.bayesian import DrawsStoppedError
from xfeedback_widgets.session import judged_map
from xfeedback_widgets.widgets import colors
from xfeedback_widgets.widgets.keyed import KeyedThread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from xfeedback_widgets.session import Explanation, Session

Target = Literal["label", "predicted"] | int
Weights = Literal["means", "mean", "spread"]

# Which request runs first: what the person looks at, then what they will look at next; draws of the
# weights cost many times a map.
CURRENT, GRID, OVERLAP, COMPARE, PREFETCH, DOUBT, DOUBT_AHEAD = range(7)
AHEAD = {PREFETCH, DOUBT_AHEAD}  # what nobody waits for yet
PREFETCHED = 8
SAMPLES = 20  # draws of a Bayesian model's weights
BATCH = 4  # small, so that a request for the current image never waits long
LONGEST_MAP = 64  # a map of pixels is reduced to this for the screen
LONGEST_SMALL = 256
KEPT_MAPS = 512
KEPT_PICTURES = 128


@dataclass(frozen=True)
class View:
    """How maps are computed: with which method, for which class, under which weights.

    ``weights`` of a Bayesian model: their ``"means"``; or draws of them, and then the ``"mean"`` of the maps
    or their ``"spread"``.
    """

    method: str
    target: Target
    version: int
    weights: Weights = "means"


@dataclass(frozen=True)
class Uncertainty:
    """What draws of the weights say of one image.

    ``entropy`` and ``mutual_information`` are in nats; ``spread`` is the largest standard deviation of the
    map, in shares of its maximum.
    """

    entropy: float
    mutual_information: float
    spread: float
    samples: int

    @property
    def aleatoric(self) -> float:
        """The part of the entropy that lies in the image."""
        return max(0.0, self.entropy - self.mutual_information)


@dataclass(frozen=True)
class Explained:
    """One image's map and prediction, under one :class:`View`.

    ``saliency`` is float32 [h, w] in [0, 1], at most 64 cells a side, all zero when the model attends
    to nothing; ``judged`` is the same map as it is stored with an answer, or where the spread is shown the
    mean of the draws; ``probabilities`` is float32 [C]; ``uncertainty`` is known where weights were drawn.
    """

    image_id: str
    view: View
    saliency: NDArray[np.float32]
    judged: NDArray[np.float16]
    probabilities: NDArray[np.float32]
    target: int
    label: int
    uncertainty: Uncertainty | None = None

    @property
    def predicted(self) -> int:
        """The class with the highest probability."""
        return int(self.probabilities.argmax())

    @property
    def confidence(self) -> float:
        """The highest probability."""
        return float(self.probabilities.max())

    @property
    def empty(self) -> bool:
        """Whether the map shows no attention anywhere."""
        return not bool(self.saliency.any())


@dataclass(frozen=True)
class Picture:
    """One picture: its width and height, encoded for the page, and small for a sheet.

    ``small`` is uint8 [h, w, 3], the picture itself unless that is larger than 256 pixels: what is kept
    of many large photographs must fit into memory.
    """

    size: tuple[int, int]
    encoded: bytes
    small: NDArray[np.uint8]


class Explainer(KeyedThread):
    """Fetch maps and pictures of a session in the background and remember the latest of them.

    Parameters
    ----------
    session : Session
    on_error : callable
        Receives ``(exception)`` of a fetch that failed, on this thread.
    """

    def __init__(self, session: Session, on_error: Callable[[Exception], None]) -> None:
        self._session = session
        self._memory = threading.Lock()
        self._maps: OrderedDict[tuple[str, View], Explained] = OrderedDict()
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._failures: OrderedDict[str, Exception] = OrderedDict()
        super().__init__("xfeedback-explainer", on_error)

    def ready(self, image_id: str, view: View) -> Explained | None:
        """Return the map if it has been fetched already; never waits."""
        with self._memory:
            return self._maps.get((image_id, view))

    def picture_ready(self, image_id: str) -> Picture | None:
        """Return the picture if it has been fetched already; never waits."""
        with self._memory:
            return self._pictures.get(image_id)

    def failure(self, image_id: str) -> Exception | None:
        """Return why the last attempt at this image failed; None when it did not."""
        with self._memory:
            return self._failures.get(image_id)

    def request(
        self,
        key: str,
        image_ids: Sequence[str],
        view: View,
        done: Callable[[], None],
        *,
        priority: int,
    ) -> None:
        """Fetch pictures and maps of some images, then call `done` on this thread.

        A later request with the same `key` replaces this one if it has not begun; between batches of
        a long one, requests with a lower `priority` number go first.
        """
        wanted = [i for i in image_ids if not self._has(i, view)]
        if not wanted:
            self.drop(key)
            done()
            return
        self.post(key, lambda: self._advance(key, wanted, view, done, priority), priority=priority)

    def picture(self, image_id: str) -> Picture:
        """Return a picture, reading it now where need be (for threads that may wait)."""
        known = self.picture_ready(image_id)
        if known is not None:
            return known
        data = self._session.data
        position = data.index(image_id)
        pixels = np.ascontiguousarray(data.picture(position))
        data.content_hash(
            position
        )  # the journal will ask for it; better computed here than in a click
        picture = Picture(
            size=(pixels.shape[1], pixels.shape[0]),
            encoded=colors.encode_picture(pixels),
            small=colors.shrink(pixels, LONGEST_SMALL),
        )
        with self._memory:
            _remember(self._pictures, image_id, picture, KEPT_PICTURES)
        return picture

    def explain(self, image_ids: Sequence[str], view: View) -> list[Explained]:
        """Return the maps of some images, computing those that are not there (may wait)."""
        missing = [i for i in image_ids if self.ready(i, view) is None]
        found = {i: item for i in image_ids if (item := self.ready(i, view)) is not None}
        for item in self._compute(missing, view):
            found[item.image_id] = item
        return [found[i] for i in image_ids if i in found]

    def _has(self, image_id: str, view: View) -> bool:
        with self._memory:
            return (image_id, view) in self._maps and image_id in self._pictures

    def _advance(
        self, key: str, image_ids: list[str], view: View, done: Callable[[], None], priority: int
    ) -> None:
        """Fetch one batch; the rest is posted anew so that urgent requests can pass."""
        batch, rest = image_ids[:BATCH], image_ids[BATCH:]
        try:
            if priority in AHEAD:
                self._give_way(key, priority)
            self._fetch(batch, view, lambda: self._must_yield(key, priority))
        except DrawsStoppedError:
            rest = image_ids  # begun anew, after what is more urgent
        if not rest:
            done()
        elif not self._replaced(key):
            self.post(
                key, lambda: self._advance(key, rest, view, done, priority), priority=priority
            )

    def _fetch(self, image_ids: list[str], view: View, stop: Callable[[], bool]) -> None:
        """Fetch pictures and maps; a failure is kept with its image and does not hurt the others."""
        try:
            for image_id in image_ids:
                self.picture(image_id)
            missing = [i for i in image_ids if self.ready(i, view) is None]
            self._compute(missing, view, stop)
        except DrawsStoppedError:
            raise
        except Exception as error:  # noqa: BLE001  datasets and models raise what they like
            if len(image_ids) > 1:
                for image_id in image_ids:
                    self._fetch([image_id], view, stop)
                return
            with self._memory:
                _remember(self._failures, image_ids[0], error, KEPT_PICTURES)
        else:
            with self._memory:
                for image_id in image_ids:
                    self._failures.pop(image_id, None)

    def _give_way(self, key: str, priority: int) -> None:
        """Wait while a press is answered; what is needed for the answer may come in meanwhile."""
        with self._condition:
            left = self._session.precedence.left
            if left and self._condition.wait_for(lambda: self._must_yield(key, priority), left):
                raise DrawsStoppedError

    def _must_yield(self, key: str, priority: int) -> bool:
        """Whether drawing has to stop, for something more urgent or because nobody wants it any more."""
        with self._condition:
            urgent = any(waiting < priority for waiting, _ in self._posts.values())
            return self._closed or key in self._posts or urgent

    def _replaced(self, key: str) -> bool:
        with self._condition:
            return key in self._posts

    def _compute(
        self, image_ids: Sequence[str], view: View, stop: Callable[[], bool] | None = None
    ) -> list[Explained]:
        if not image_ids:
            return []
        live = view.version == self._session.version
        drawn = view.weights != "means"
        result = self._session.explain(
            list(image_ids),
            method=view.method,
            target=view.target,
            # the live weights need no copy; they may be newer than asked for, which is caught below
            version=None if live else view.version,
            samples=SAMPLES if drawn else 0,
            stop=stop,
        )
        if result.version != view.version:
            return []  # published meanwhile: whoever asked will ask again, for the new weights
        kinds: tuple[Weights, ...] = ("mean", "spread") if drawn else ("means",)
        rows = range(len(result.image_ids))
        items = {
            kind: [_explained(result, row, replace(view, weights=kind)) for row in rows]
            for kind in kinds
        }
        with self._memory:
            for item in (item for kind in kinds for item in items[kind]):
                _remember(self._maps, (item.image_id, item.view), item, KEPT_MAPS)
        return items[view.weights]


def _explained(result: Explanation, row: int, view: View) -> Explained:
    doubt, uncertainty = result.doubt, None
    saliency = _array(result.maps[row])
    if doubt is not None:
        spread = _array(doubt.spread[row])
        uncertainty = Uncertainty(
            float(doubt.entropy[row]),
            float(doubt.mutual_information[row]),
            float(spread.max()),
            doubt.samples,
        )
        if view.weights == "spread":
            saliency = spread / max(uncertainty.spread, 1e-12)
    height, width = saliency.shape
    if max(height, width) > LONGEST_MAP:
        saliency = colors.resize(saliency, min(height, LONGEST_MAP), min(width, LONGEST_MAP))
    return Explained(
        image_id=result.image_ids[row],
        view=view,
        saliency=saliency,
        judged=judged_map(result.maps[row]),
        probabilities=_array(result.probabilities[row]),
        target=int(result.targets[row]),
        label=int(result.labels[row]),
        uncertainty=uncertainty,
    )


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float32)


def _remember(store: OrderedDict[Any, Any], key: Any, value: Any, limit: int) -> None:
    store[key] = value
    store.move_to_end(key)
    while len(store) > limit:
        store.popitem(last=False)
