"""A simulated annotator: answers from ground-truth masks, given as a person would give them.

For experiments, tests and demonstrations. It looks at the map a person would be shown, or at where a unit
is active, and at nothing else of the model, and its answers go through ``session.record`` like
everybody's. Problems to try it on are in ``data``.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Literal

import torch

from xfeedback_widgets.feedback import (
    Byproduct,
    Click,
    ImageNetAB,
    RegionMask,
    UnitVerdict,
    Verdict,
)
from xfeedback_widgets.saliency import upsample
from xfeedback_widgets.session import judged_map

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from xfeedback_widgets.data import ImageSet
    from xfeedback_widgets.feedback import Answer
    from xfeedback_widgets.session import Session


class Annotator:
    """Accepts a map, or a unit, that lies on the relevant pixels.

    Parameters
    ----------
    data
        Images with masks (True = relevant).
    threshold
        Accept where at least this share of the map's mass, in [0, 1], is relevant; else reject. An
        empty map, and an image without a mask, is answered "unsure".
    """

    def __init__(self, data: ImageSet, *, threshold: float = 0.5) -> None:
        if not data.has_masks:
            raise ValueError(
                "a simulated annotator needs ground-truth masks; pass masks= to ImageSet"
            )
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {threshold}")
        self.data = data
        self.threshold = threshold

    def judge(self, image_id: str, saliency_map: Tensor) -> Answer:
        """Return the answer about one map.

        Parameters
        ----------
        image_id
            Which image.
        saliency_map
            ``float [h, w]`` ≥ 0.
        """
        mask = self.data.mask(self.data.index(image_id))
        if mask is None or not bool((saliency_map > 0).any()):
            return "unsure"
        shown = upsample(saliency_map[None].float(), (mask.shape[0], mask.shape[1]))[0]
        relevant = float((shown * mask).sum() / shown.sum())
        return _verdict(relevant >= self.threshold)

    def answer(
        self, session: Session, image_ids: Sequence[str], *, batch_size: int = 64
    ) -> dict[str, Answer]:
        """Judge the session's present maps of some images and record the answers.

        Returns
        -------
        dict
            The answer about each image.
        """
        return {
            verdict.image_id: verdict.answer
            for verdict in self._verdicts(session, image_ids, batch_size)
        }

    def draw(
        self,
        session: Session,
        image_ids: Sequence[str],
        *,
        adjust: Literal["unreasonable", "all"] = "unreasonable",
        irrelevant: bool = True,
        batch_size: int = 64,
    ) -> dict[str, RegionMask]:
        """Judge the session's present maps of some images, then draw where they should look.

        The two steps of Interactive Attention Alignment: every map gets a verdict, and those found
        unreasonable are adjusted.

        Parameters
        ----------
        session
            What is explained, and where verdicts and masks are recorded.
        image_ids
            Which images.
        adjust
            ``"all"`` draws on reasonable ones, too.
        irrelevant
            Mark what is not relevant as irrelevant; else only what is relevant is marked.
        batch_size
            Maps computed at once.

        Returns
        -------
        dict
            The mask drawn on each image; images without ground truth get none.
        """
        drawn: dict[str, RegionMask] = {}
        for verdict in self._verdicts(session, image_ids, batch_size):
            truth = self.data.mask(self.data.index(verdict.image_id))
            if truth is None or (adjust == "unreasonable" and verdict.answer == "accept"):
                continue
            marks = truth.to(torch.int8)
            mask = RegionMask(
                verdict.image_id,
                (marks * 2 - 1 if irrelevant else marks).numpy(),
                target=verdict.target,
                method=verdict.method,
                version=verdict.version,
            )
            session.record(mask)
            drawn[verdict.image_id] = mask
        return drawn

    def _verdicts(
        self, session: Session, image_ids: Sequence[str], batch_size: int
    ) -> Iterator[Verdict]:
        """Judge maps as they are shown, and record what is said of each."""
        for start in range(0, len(image_ids), batch_size):
            shown = session.explain(list(image_ids[start : start + batch_size]))
            predicted = shown.probabilities.argmax(1).tolist()
            for image_id, target, seen, map_ in zip(
                shown.image_ids, shown.targets.tolist(), predicted, shown.maps, strict=True
            ):
                verdict = Verdict(
                    image_id,
                    self.judge(image_id, map_),
                    target=target,
                    method=shown.method,
                    version=shown.version,
                    map=judged_map(map_),
                    predicted=seen,
                )
                session.record(verdict)
                yield verdict

    def answer_units(
        self, session: Session, units: Iterable[int] | None = None, *, threshold: float = 0.46
    ) -> dict[int, Answer]:
        """Judge units of the session's model by where they are active, and record the answers.

        A person sees a unit's strongest patches; this annotator its activation on up to 512 images.

        Parameters
        ----------
        session
            Its training images need masks.
        units
            Which units; None: all.
        threshold
            Accept where at least this share of the unit's activation, in [0, 1], is on relevant pixels;
            else reject. A unit that is active on no image is answered "unsure".

        Returns
        -------
        dict
            The answer about each unit.
        """
        outside = session.suspicion()
        answers: dict[int, Answer] = {}
        for unit in range(len(outside)) if units is None else units:
            share = 1 - float(outside[unit])
            answers[unit] = "unsure" if math.isnan(share) else _verdict(share >= threshold)
            session.record(UnitVerdict(unit, answers[unit]))
        return answers

    def clicks(
        self, image_ids: Sequence[str], *, inside: float = 0.829, seed: int = 0
    ) -> list[Byproduct]:
        """Click once on each image, as on the pages of ImageNet-AB.

        Parameters
        ----------
        image_ids
            Images without a relevant pixel, or without any other, are left out.
        inside
            Share of clicks, in [0, 1], on the relevant pixels; the others are anywhere else. People's was
            82.9 % (arXiv 2303.17595).
        seed
            Of the places; the click on an image does not depend on which others are asked for.

        Returns
        -------
        list of Byproduct
            For the class of each image; to be given to ``session.record``.
        """
        if not 0 <= inside <= 1:
            raise ValueError(f"inside must be in [0, 1], got {inside}")
        found = []
        for image_id in image_ids:
            index = self.data.index(image_id)
            mask = self.data.mask(index)
            if mask is None or not mask.any() or mask.all():
                continue
            rng = random.Random(f"{seed} {image_id}")
            rows, columns = (mask if rng.random() < inside else ~mask).nonzero(as_tuple=True)
            at = rng.randrange(len(rows))
            height, width = mask.shape
            x, y = (
                (int(columns[at]) + rng.random()) / width,
                (int(rows[at]) + rng.random()) / height,
            )
            trace = ImageNetAB(
                image_id, height, width, height, width,
                selected=True, selectedCount=1, selectedRecord=(Click(x, y, 0),),
            )  # fmt: skip
            found.append(Byproduct(image_id, trace, target=int(self.data.labels[index])))
        return found


def _verdict(relevant: bool) -> Answer:
    return "accept" if relevant else "reject"
