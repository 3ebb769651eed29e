"""What people said, merged: several annotators, several answers each, one view.

:class:`Feedback` is a pure function of a list of records: nothing here reads or writes a file. The
rules are CRAYON's (arXiv 2410.22312): the majority over annotators for images, the sum of ±1 votes
for units. Where answers come from is :mod:`.journal`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from math import dist
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from .byproducts import CocoAB, ImageNetAB, Point
from .records import ANSWERS, Answer, Byproduct, Record, RegionMask, UnitVerdict, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

SCORES: Mapping[str, float] = MappingProxyType({"accept": 1.0, "unsure": 0.5, "reject": 0.0})
_UNIT_VOTES = {"accept": 1, "unsure": 0, "reject": -1}

_K = TypeVar("_K")
_V = TypeVar("_V", Verdict, UnitVerdict)


class ContentMismatchError(ValueError):
    """An answer was given for another picture than the one that now carries its id."""


def majority(answers: Iterable[Answer]) -> Answer:
    """Merge several people's answers about one image, as CRAYON does.

    Parameters
    ----------
    answers
        At least one answer.

    Returns
    -------
    str
        With accept = 1, unsure = 0.5, reject = 0: "accept" when the mean exceeds 0.7, "unsure" when
        it is 0.5 or more, else "reject".

    Raises
    ------
    ValueError
        When there is no answer.
    """
    scores = [SCORES[answer] for answer in answers]
    if not scores:
        raise ValueError("no answers to merge: leave images that nobody answered out")
    mean = sum(scores) / len(scores)
    if mean > 0.7:
        return "accept"
    return "unsure" if mean >= 0.5 else "reject"


def check_content(records: Iterable[Record], content_hash: Callable[[str], str | None]) -> None:
    """Refuse answers that were given for another picture than the data now holds.

    Parameters
    ----------
    records
        The records about to be used. Those without a content hash cannot be checked and pass.
    content_hash
        Gives the hash of the picture with an id, or None when the data has no such image.

    Raises
    ------
    ContentMismatchError
        At the first record whose hash differs, naming the image and both hashes.
    """
    for record in records:
        if isinstance(record, UnitVerdict) or record.content_hash is None:
            continue
        found = content_hash(record.image_id)
        if found is not None and found != record.content_hash:
            raise ContentMismatchError(
                f"the answer for image {record.image_id!r} was given for a picture with content "
                f"hash {record.content_hash}, but the data's picture has {found}; "
                "use the data that was answered, or start a new session directory"
            )


@dataclass(frozen=True)
class Agreement:
    """How far annotators agree on the images that at least two of them answered.

    Attributes
    ----------
    images
        Number of images with two or more annotators.
    percent
        Share of annotator pairs with the same answer, in [0, 1], over all those images; None
        without such images.
    kappa
        Mean over annotator pairs of Cohen's kappa (Light's kappa; for two annotators simply
        Cohen's), in [-1, 1]; None where it is not defined (a pair that only ever used one word).
    """

    images: int
    percent: float | None
    kappa: float | None


class Feedback:
    """The current answers, votes merged; immutable.

    Build it with :meth:`of` (or take ``session.feedback``). Records are taken in the order given:
    the latest answer of an annotator about an image is the one that counts.

    Examples
    --------
    >>> feedback = Feedback.of([Verdict("7", "reject"), Verdict("7", "accept")])
    >>> feedback.verdicts["7"].answer, len(feedback)
    ('accept', 1)
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._records = tuple(records)

    @classmethod
    def of(cls, records: Iterable[Record]) -> Feedback:
        """Merge records, oldest first.

        Parameters
        ----------
        records
            Records in force, in the order in which they were given.

        Returns
        -------
        Feedback
        """
        return cls(records)

    @property
    def records(self) -> tuple[Record, ...]:
        """Everything the view was made from, in order."""
        return self._records

    @cached_property
    def votes(self) -> Mapping[str, tuple[Verdict, ...]]:
        """For each image the latest verdict of each annotator, oldest first."""
        given = ((r.image_id, r) for r in self._records if isinstance(r, Verdict))
        return MappingProxyType(_latest_per_annotator(given))

    @cached_property
    def verdicts(self) -> Mapping[str, Verdict]:
        """For each image the merged verdict.

        One vote is that vote. Of several, the latest that agrees with the merged answer lends its
        map, target, version and the like (of none agreeing, the latest vote does), and ``annotator``,
        ``duration`` and ``pointer`` are None because the answer is nobody's alone.
        """
        return MappingProxyType({key: _merge(votes) for key, votes in self.votes.items()})

    @cached_property
    def masks(self) -> Mapping[str, RegionMask]:
        """For each image the latest region mask, whoever drew it; one may be :attr:`RegionMask.empty`."""
        masks = {r.image_id: r for r in self._records if isinstance(r, RegionMask)}
        return MappingProxyType(masks)

    @cached_property
    def byproducts(self) -> Mapping[str, tuple[Byproduct, ...]]:
        """For each image the latest byproduct of each annotator for each class asked, oldest first."""
        latest: dict[str, dict[object, Byproduct]] = {}
        for record in self._records:
            if isinstance(record, Byproduct):
                of_image = latest.setdefault(record.image_id, {})
                key = (record.annotator, record.target, type(record.trace))
                of_image.pop(key, None)  # so that order is by latest
                of_image[key] = record
        return MappingProxyType({image: tuple(found.values()) for image, found in latest.items()})

    @cached_property
    def points(self) -> Mapping[str, Mapping[int | str | None, Point]]:
        """For each image where people pointed, by class: final clicks and final placements, merged.

        A class is the index a browsing page asked for (None where it did not say) or the name on a
        tagging page's icon. Of several people's points the one nearest to all others counts, which
        somebody did point at, while their mean may lie between two objects.
        """
        found: dict[str, dict[int | str | None, list[Point]]] = {}
        for image_id, byproducts in self.byproducts.items():
            for byproduct in byproducts:
                for key, point in points_of(byproduct).items():
                    found.setdefault(image_id, {}).setdefault(key, []).append(point)
        return MappingProxyType(
            {
                image_id: MappingProxyType(
                    {key: _central(given) for key, given in by_class.items()}
                )
                for image_id, by_class in found.items()
            }
        )

    @cached_property
    def unit_votes(self) -> Mapping[int, tuple[UnitVerdict, ...]]:
        """For each unit the latest verdict of each annotator, oldest first."""
        given = ((r.unit, r) for r in self._records if isinstance(r, UnitVerdict))
        return MappingProxyType(_latest_per_annotator(given))

    @cached_property
    def units(self) -> Mapping[int, UnitVerdict]:
        """For each asked unit the merged verdict: it stays ("accept") when its ±1 votes sum ≥ 0."""
        return MappingProxyType({key: _merge_unit(votes) for key, votes in self.unit_votes.items()})

    @cached_property
    def agreement(self) -> Agreement:
        """How far the annotators agree; see :class:`Agreement`."""
        return _agreement(self.votes)

    @property
    def kept(self) -> Mapping[str, int]:
        """How many records hold what falls off while people answer, by what it is.

        ``duration``: how long somebody looked; ``pointer``: where the pointer went; ``strokes``: in which
        order something was drawn; ``byproduct``: what a labelling page saw.
        """
        found = dict.fromkeys(("duration", "pointer", "strokes", "byproduct"), 0)
        for record in self._records:
            fields = vars(record)
            found["duration"] += fields.get("duration") is not None
            found["pointer"] += fields.get("pointer") is not None
            found["strokes"] += "strokes" in fields and bool(fields["strokes"].tools)
            found["byproduct"] += isinstance(record, Byproduct)
        return MappingProxyType(found)

    def counts(self) -> dict[str, int]:
        """Count images by merged answer.

        Returns
        -------
        dict
            ``{"accept": …, "reject": …, "unsure": …}``, zeros included.
        """
        counts = dict.fromkeys(ANSWERS, 0)
        for verdict in self.verdicts.values():
            counts[verdict.answer] += 1
        return counts

    def __len__(self) -> int:
        """Give the number of images with a verdict, a mask or a byproduct."""
        return len(self.votes.keys() | self.masks.keys() | self.byproducts.keys())

    def __bool__(self) -> bool:
        """Whether anything at all was said (units count, unlike in ``len``)."""
        return bool(self._records)

    def __eq__(self, other: object) -> bool:
        return self._records == other._records if isinstance(other, Feedback) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._records)

    def __repr__(self) -> str:
        counts = ", ".join(f"{number} {answer}" for answer, number in self.counts().items())
        more = f", points on {len(self.points)} images" if self.points else ""
        return f"Feedback({counts}, {len(self.masks)} masks, {len(self.units)} units{more})"

    def __reduce__(self) -> tuple[type[Feedback], tuple[tuple[Record, ...]]]:
        # the cached views cannot be pickled and are cheap to make again
        return type(self), (self._records,)


def points_of(byproduct: Byproduct) -> Mapping[int | str | None, Point]:
    """Give where one person pointed at each class in the end.

    Parameters
    ----------
    byproduct
        Of a browsing or a tagging page.

    Returns
    -------
    Mapping
        The final click by the class index asked for, or final placements by the name on the icon. Points
        off the picture are left out.
    """
    trace = byproduct.trace
    given: list[tuple[int | str | None, Point]] = []
    if isinstance(trace, CocoAB):
        given += trace.final_placement.items()
    elif trace.final_click is not None:
        given.append((byproduct.target, trace.final_click))
    return {key: point for key, point in given if all(0 <= at <= 1 for at in point)}


def repointed(byproduct: Byproduct, choose: Callable[[int | str | None], Point]) -> Byproduct:
    """Give the same byproduct with other final points, for controls.

    Parameters
    ----------
    byproduct
        Of a browsing or a tagging page; only the points of :func:`points_of` change.
    choose
        Gives the new point of a class.
    """
    chosen = {key: choose(key) for key in points_of(byproduct)}
    trace = byproduct.trace
    if not chosen:
        return byproduct
    if isinstance(trace, ImageNetAB):
        *before, last = trace.selectedRecord
        x, y = chosen[byproduct.target]
        return replace(
            byproduct, trace=replace(trace, selectedRecord=(*before, last._replace(x=x, y=y)))
        )
    placed = [
        action._replace(pointTo=chosen.get(action.iconType, action.pointTo))
        if action.pointTo is not None
        else action
        for action in trace.actionHistories
    ]
    return replace(byproduct, trace=replace(trace, actionHistories=tuple(placed)))


def _central(points: list[Point]) -> Point:
    """Give the point with the least distance to all others; of equals the latest."""
    distances = [sum(dist(one, other) for other in points) for one in points]
    return points[len(points) - 1 - distances[::-1].index(min(distances))]


def _latest_per_annotator(given: Iterable[tuple[_K, _V]]) -> dict[_K, tuple[_V, ...]]:
    latest: dict[_K, dict[str | None, _V]] = {}
    for key, vote in given:
        of_key = latest.setdefault(key, {})
        of_key.pop(vote.annotator, None)  # so that order is by latest answer
        of_key[vote.annotator] = vote
    return {key: tuple(of_key.values()) for key, of_key in latest.items()}


def _merge(votes: tuple[Verdict, ...]) -> Verdict:
    if len(votes) == 1:
        return votes[0]
    answer = majority(vote.answer for vote in votes)
    source = next((vote for vote in reversed(votes) if vote.answer == answer), votes[-1])
    return replace(source, answer=answer, annotator=None, duration=None, pointer=None)


def _merge_unit(votes: tuple[UnitVerdict, ...]) -> UnitVerdict:
    answer: Answer = "accept" if sum(_UNIT_VOTES[vote.answer] for vote in votes) >= 0 else "reject"
    if len(votes) == 1:
        return replace(votes[0], answer=answer)
    source = next((vote for vote in reversed(votes) if vote.answer == answer), votes[-1])
    return replace(source, answer=answer, annotator=None, duration=None)


def _agreement(votes: Mapping[str, tuple[Verdict, ...]]) -> Agreement:
    shared = [{v.annotator: v.answer for v in of_image} for of_image in votes.values()]
    shared = [answers for answers in shared if len(answers) > 1]
    pairs: dict[tuple[str | None, str | None], tuple[list[str], list[str]]] = {}
    for answers in shared:
        order = sorted(answers, key=lambda name: (name is not None, name or ""))
        for one, other in combinations(order, 2):
            left, right = pairs.setdefault((one, other), ([], []))
            left.append(answers[one])
            right.append(answers[other])
    if not pairs:
        return Agreement(0, None, None)
    same = [a == b for left, right in pairs.values() for a, b in zip(left, right, strict=True)]
    kappas = [_cohen_kappa(left, right) for left, right in pairs.values()]
    defined = [kappa for kappa in kappas if kappa is not None]
    kappa = sum(defined) / len(defined) if len(defined) == len(kappas) else None
    return Agreement(len(shared), sum(same) / len(same), kappa)


def _cohen_kappa(left: list[str], right: list[str]) -> float | None:
    if len({*left, *right}) < 2:
        return None  # chance agreement is 1: kappa would be 0/0
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(left, right, labels=ANSWERS))
