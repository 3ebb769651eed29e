import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xfeedback_widgets.saliency import is_empty, normalize, threshold, upsample

values = st.floats(-(2.0**90), 2.0**90, width=32)


@st.composite
def stacks(draw):
    n, h, w = draw(st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(1, 4)))
    flat = draw(st.lists(values, min_size=n * h * w, max_size=n * h * w))
    return torch.tensor(flat).reshape(n, h, w)


@settings(max_examples=150, deadline=None)
@given(stacks())
def test_normalised_maps_peak_at_one_or_are_empty(maps):
    normal = normalize(maps)
    assert normal.isfinite().all()
    assert ((normal >= 0) & (normal <= 1)).all()
    peaks = normal.flatten(1).amax(1) if len(maps) else torch.zeros(0)
    assert torch.equal(peaks, (~is_empty(maps)).float())
    assert torch.allclose(normalize(normal), normal)


@settings(max_examples=100, deadline=None)
@given(stacks(), st.floats(0, 0.99))
def test_threshold_marks_the_peak_of_every_map_but_an_empty_one(maps, t):
    marked = threshold(maps, t)
    assert marked.dtype == torch.bool
    assert torch.equal(marked.flatten(1).any(1), ~is_empty(maps))


@settings(max_examples=50, deadline=None)
@given(stacks(), st.integers(1, 9), st.integers(1, 9))
def test_upsampling_stays_within_the_range(maps, h, w):
    big = upsample(maps, (h, w))
    assert big.shape == (len(maps), h, w)
    if len(maps):
        slack = 1e-5 * maps.abs().max()
        assert (big >= maps.min() - slack).all()
        assert (big <= maps.max() + slack).all()


def test_gradient_of_an_empty_map_is_finite():
    maps = torch.tensor([[[0.0, 0.0]], [[1.0, 2.0]]], requires_grad=True)
    normalize(maps).sum().backward()
    assert maps.grad.isfinite().all()
    # d/da (a/b) = 1/b; d/db (a/b + 1) = -a/b²
    assert torch.allclose(maps.grad[1], torch.tensor([[0.5, -0.25]]))


def test_bad_maps_are_named():
    with pytest.raises(ValueError, match="int64"):
        normalize(torch.zeros(1, 2, 2, dtype=torch.long))
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        threshold(torch.rand(1, 2, 2), 1.0)
    with pytest.raises(ValueError, match="size"):
        upsample(torch.rand(1, 2, 2), (0, 3))
