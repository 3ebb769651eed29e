from __future__ import annotations

import numpy as np
import pytest

from xfeedback_widgets.widgets.queue import WORTH, Queue, arrange

LABELS = np.array([0, 1, 2, 0, 1, 2])
PROBABILITIES = np.array(
    [
        [0.9, 0.1, 0.0],  # right, sure
        [0.4, 0.5, 0.1],  # right, unsure
        [0.8, 0.1, 0.1],  # wrong, sure
        [0.6, 0.2, 0.2],  # right
        [0.4, 0.3, 0.3],  # wrong, unsure
        [np.nan, np.nan, np.nan],  # unreadable
    ]
)


def test_orders():
    given = {"probabilities": PROBABILITIES}
    assert arrange("dataset", LABELS) == [0, 1, 2, 3, 4, 5]
    assert arrange("least_confident", LABELS, **given) == [5, 4, 1, 3, 2, 0]
    assert arrange("misclassified", LABELS, **given)[:2] == [2, 4]
    assert arrange("disagreement", LABELS, disagreement=np.array([0, 2, 0, 0, 1, 0]))[:2] == [1, 4]
    first = arrange("random", LABELS, seed=3)
    assert first == arrange("random", LABELS, seed=3) != arrange("random", LABELS, seed=4)
    assert sorted(first) == [0, 1, 2, 3, 4, 5]


def test_without_predictions_the_order_is_the_datasets():
    assert arrange("least_confident", LABELS) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("order", WORTH)
def test_what_is_most_worth_asking_comes_first(order):
    worth = np.array([0.1, np.nan, 0.7, 0.1, 2.0, np.nan])
    assert arrange(order, LABELS, worth=worth) == [4, 2, 0, 3, 1, 5]
    assert arrange(order, LABELS) == [0, 1, 2, 3, 4, 5], "not known yet"


def test_the_least_robust_come_first_and_what_has_no_score_last():
    scores = np.array([0.5, np.nan, 0.1, 0.1, np.nan, 0.0])
    assert arrange("robustness", LABELS, robustness=scores) == [5, 2, 3, 0, 1, 4]
    assert arrange("robustness", LABELS, robustness=scores, classes=[0, 1]) == [3, 0, 1, 4]
    assert arrange("robustness", LABELS) == [0, 1, 2, 3, 4, 5], "nothing is known: the dataset's"


def test_class_filter_keeps_the_order():
    assert arrange("least_confident", LABELS, probabilities=PROBABILITIES, classes=[0, 1]) == [
        4,
        1,
        3,
        0,
    ]
    assert arrange("dataset", LABELS, classes=[7]) == []


def test_unknown_order_lists_those_that_exist():
    with pytest.raises(ValueError, match=r"least_confident.*random"):
        arrange("best", LABELS)


@pytest.fixture
def walk():
    answered = set()
    return Queue([3, 1, 2], answered.__contains__), answered


def test_forward_passes_over_what_is_answered(walk):
    queue, answered = walk
    answered.update({3, 1})
    queue.forward()
    assert queue.current == 2


def test_back_and_forward_again_follow_the_trail(walk):
    queue, answered = walk
    answered.add(3)
    assert queue.forward() == 1
    assert queue.back() == 3
    assert queue.back() == 3, "stays at the first one"
    assert queue.forward() == 1


def test_skipped_images_come_round_again_the_longest_ago_first(walk):
    queue, _ = walk
    seen = [queue.current] + [queue.forward() for _ in range(8)]
    assert seen == [3, 1, 2] * 3


def test_the_last_open_image_stays(walk):
    queue, answered = walk
    answered.update({1, 2})
    assert queue.forward() == 3


def test_the_end_and_back_from_it(walk):
    queue, answered = walk
    for _ in range(3):
        answered.add(queue.current)
        queue.forward()
    assert queue.current is None
    assert queue.upcoming(5) == []
    assert queue.back() == 2


def test_upcoming_tells_the_future(walk):
    queue, answered = walk
    expected = queue.upcoming(2)
    visited = []
    for _ in range(2):
        answered.add(queue.current)
        visited.append(queue.forward())
    assert visited == expected == [1, 2]


def test_go_to_reaches_any_image_and_back_returns(walk):
    queue, _ = walk
    queue.forward()
    queue.go_to(9)
    assert queue.current == 9
    assert queue.back() == 1
    queue.go_to(3)
    assert queue.current == 3


def test_a_new_order_leaves_the_current_image(walk):
    queue, answered = walk
    answered.add(3)
    queue.forward()
    queue.reorder([2, 1, 3])
    assert queue.current == 1
    assert queue.forward() == 2
    queue.reorder([1, 2, 3], restart=True)
    assert queue.current == 1


def test_an_empty_order():
    queue = Queue([], lambda _: False)
    assert (queue.current, queue.forward(), queue.back()) == (None, None, None)
