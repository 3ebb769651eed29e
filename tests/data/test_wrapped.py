"""What datasets tell about themselves, none of it by decoding an image."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Subset, TensorDataset

from xfeedback_widgets.data import wrapped


class Silent:
    """A dataset that fails when read."""

    def __init__(self, **attributes):
        vars(self).update(attributes)

    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise AssertionError("read")


def test_labels_under_every_name():
    for attributes in (
        {"targets": [2, 0, 1]},
        {"targets": torch.tensor([2, 0, 1])},
        {"labels": np.array([2, 0, 1])},
        {"_labels": (2, 0, 1)},
        {"samples": [("a", 2), ("b", 0), ("c", 1)]},
        {
            "imgs": [("a", 2), ("b", 0), ("c", 1)],
            "targets": [1],
        },  # targets of another length: not labels
    ):
        assert wrapped.known_labels(Silent(**attributes)) == [2, 0, 1]
    assert wrapped.known_labels(Silent()) is None


def test_labels_of_lists_tensors_and_subsets():
    assert wrapped.known_labels([("x", 4), ("y", 5)]) == [4, 5]
    assert wrapped.known_labels(["x", "y"]) is None
    tensors = TensorDataset(torch.zeros(3, 1, 2, 2), torch.tensor([7, 8, 9]))
    assert wrapped.known_labels(Subset(Subset(tensors, [2, 1]), [1])) == [8]
    assert wrapped.known_labels(TensorDataset(torch.zeros(3, 1))) is None


def test_target_transform_is_applied():
    assert wrapped.known_labels(Silent(targets=[2, 0, 1], target_transform=lambda y: 2 - y)) == [
        0,
        2,
        1,
    ]


def test_paths_relative_to_the_root(tmp_path):
    samples = [
        (str(tmp_path / "b" / "1.png"), 0),
        ("/elsewhere/2.png", 1),
        (str(tmp_path / "3.png"), 1),
    ]
    dataset = Silent(samples=samples, root=tmp_path)
    assert wrapped.known_paths(dataset) == ["b/1.png", "/elsewhere/2.png", "3.png"]
    assert wrapped.known_paths(Subset(dataset, [2])) == ["3.png"]
    assert wrapped.known_paths(Silent(samples=[(0, 1)] * 3)) is None


def test_file_names_that_are_no_text_can_be_stored():
    path = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    assert wrapped.relative_path(path, None) == "caf\\xe9.png"


def test_classes_under_subsets():
    assert wrapped.known_classes(Subset(Silent(classes=["a", "<b>"]), [0])) == ("a", "<b>")
    assert wrapped.known_classes(Silent()) is None
