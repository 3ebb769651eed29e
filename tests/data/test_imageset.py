"""ImageSet: ids, labels, pictures, hashes and masks of any dataset, and errors that name the image."""

from __future__ import annotations

import hashlib
import io
import pickle
import threading
import time
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from xfeedback_widgets.data import ImageSet, UnknownImageError, UnreadableImageError

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def pixels(seed: int, size: tuple[int, ...] = (8, 8, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def pairs(count: int = 4) -> list[tuple[torch.Tensor, int]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.rand(3, 8, 8, generator=generator), i % 2) for i in range(count)]


class Reads(Dataset):
    """Counts how often it is read; fails where told to."""

    def __init__(self, count=4, broken=(), **attributes):
        self.count, self.broken, self.reads = count, broken, 0
        vars(self).update(attributes)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.reads += 1
        if index in self.broken:
            raise OSError(f"truncated file\nline two of {index}")
        return Image.fromarray(pixels(index)), index % 2


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(["cat/a.png", "cat/b.png", "dog/c.png"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels(number, (12, 16, 3))).save(tmp_path / name)
    return tmp_path


class TestWhatItKnows:
    def test_folder_is_known_without_reading_it(self, folder, monkeypatch):
        dataset = ImageFolder(folder, loader=lambda path: pytest.fail("decoded"))
        data = ImageSet(dataset)
        assert data.ids == ("cat/a.png", "cat/b.png", "dog/c.png")
        assert data.labels.tolist() == [0, 0, 1]
        assert data.class_names == ("cat", "dog")
        assert ImageSet(Subset(dataset, [2, 0])).ids == ("dog/c.png", "cat/a.png")

    def test_labels_are_read_once_and_only_when_asked(self):
        dataset = Reads(ids=None)
        data = ImageSet(dataset, ids="abcd")
        assert dataset.reads == 0
        assert data.labels.tolist() == [0, 1, 0, 1]
        assert data.num_classes == 2
        assert dataset.reads == 4

    def test_ids_default_to_the_content_and_repeats_are_numbered(self):
        one, other = pairs(2)
        data = ImageSet([one, other, one, one])
        first, second = data.content_hash(0), data.content_hash(1)
        assert data.ids == (first, second, f"{first}#2", f"{first}#3")
        assert all(len(digits) == 32 and int(digits, 16) for digits in (first, second))

    def test_index_and_near_matches(self):
        data = ImageSet(pairs(), ids=["cat/1.png", "cat/2.png", "dog/1.png", "<b>\n🐈"])
        assert [data.index(name) for name in data.ids] == [0, 1, 2, 3]
        assert "cat/1.png" in data
        assert "cat/3.png" not in data
        with pytest.raises(UnknownImageError, match=r"no image 'cat/3.png'.*did you mean 'cat/"):
            data.index("cat/3.png")
        with pytest.raises(KeyError, match=r"data\.ids"):
            data.index("zzz")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"ids": ["a"]}, "ids has 1 entries for 4 images"),
            ({"ids": ["a", "b", "a", "c"]}, r"ids\[0\] and ids\[2\] are both 'a'"),
            ({"ids": ["a", "", "b", "c"]}, r"ids\[1\] is empty"),
            ({"ids": ["a", "\udcff", "b", "c"]}, r"ids\[1\].*no Unicode"),
            ({"labels": [0, 1]}, "labels has 2 entries"),
            ({"labels": [0, 1, -1, 0]}, r"labels\[2\] is -1"),
            ({"labels": [0, 0.5, 1, 0]}, "one integer per image"),
            ({"labels": 2 * torch.eye(4)}, "one integer per image"),
            (
                {"ids": "abcd", "labels": [0, 5, 1, 0], "class_names": ["xyz"]},
                "'b' has label 5",
            ),
            ({"class_names": ["only"]}, "has label 1, but there are names for only 1"),
            ({"class_names": "cat"}, "class_names is 'cat'"),
            ({"groups": [0]}, "groups has 1 entries"),
            ({"groups": [0, 3, 1, 0], "group_names": ["x", "y"]}, "groups goes up to 3"),
            ({"group_names": ["x"]}, "without groups="),
            ({"masks": [None]}, "masks has 1 entries"),
            ({"transform": transforms.RandomCrop(4)}, "random step, RandomCrop"),
        ],
    )
    def test_wrong_input_is_named(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            ImageSet(pairs(), **arguments)

    def test_empty_and_unsuitable_datasets(self):
        with pytest.raises(ValueError, match="dataset is empty"):
            ImageSet([])
        with pytest.raises(TypeError, match="has no length"):
            ImageSet(iter([1]))
        bare = ImageSet([torch.rand(3, 2, 2)] * 2, ids="ab")
        with pytest.raises(TypeError, match=r"yields Tensor, expected \(image, label\)"):
            bare.labels  # noqa: B018
        assert ImageSet([torch.rand(3, 2, 2)] * 2, labels=[1, 0])[0][1] == 1

    def test_list_of_labels_that_disagrees_with_the_items_is_an_error(self):
        data = ImageSet(Reads(targets=[0, 0, 0, 0]))
        data[0]
        with pytest.raises(ValueError, match=r"yields label 1, its list of labels says 0.*labels="):
            data[1]
        assert ImageSet(Reads(targets=[0] * 4), labels=[1, 0, 1, 0])[0][1] == 1

    def test_hostile_names_are_kept(self):
        names = ["<script>alert(1)</script>", "🐈 &amp;\n"]
        data = ImageSet(pairs(), ids=["a/<b>", "\n", "'; --", "é"], class_names=names)
        assert data.class_names == tuple(names)
        assert data.ids == ("a/<b>", "\n", "'; --", "é")


class TestPictures:
    def test_tensor_pictures_and_pil(self):
        array = pixels(0)
        for image in (
            array,
            Image.fromarray(array),
            torch.from_numpy(array).permute(2, 0, 1).float() / 255,
        ):
            data = ImageSet([(image, 0)])
            np.testing.assert_array_equal(data.picture(0), array)
            tensor, label = data[0]
            assert (tensor.dtype, tensor.shape, label) == (torch.float32, (3, 8, 8), 0)
            np.testing.assert_array_equal((tensor * 255).round().byte().permute(1, 2, 0), array)

    def test_dataset_that_normalises_still_shows_the_picture(self, folder):
        size = transforms.Compose([transforms.CenterCrop(8), transforms.ToTensor()])
        data = ImageSet(
            ImageFolder(folder, transforms.Compose([size, transforms.Normalize(MEAN, STD)])),
        )
        assert data[1][0].min() < 0
        picture = pixels(1, (12, 16, 3))[2:10, 4:12]
        np.testing.assert_array_equal(data.picture(1), picture)
        assert data.content_hash(1) == ImageSet([(picture, 0)]).content_hash(0)

    def test_picture_covers_what_the_model_sees(self, folder):
        transform = transforms.Compose(
            [transforms.CenterCrop(8), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        )
        data = ImageSet(ImageFolder(folder), transform=transform)
        np.testing.assert_array_equal(data.picture(2), pixels(2, (12, 16, 3))[2:10, 4:12])

    def test_unknown_transform_falls_back_to_the_source(self, folder):
        data = ImageSet(
            ImageFolder(folder),
            transform=lambda image: transforms.functional.to_tensor(image) * 9 - 4,
        )
        np.testing.assert_array_equal(data.picture(0), pixels(0, (12, 16, 3)))

    def test_grey_picture_for_a_colour_model(self):
        transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
        data = ImageSet([(Image.fromarray(pixels(0, (8, 8))), 0)], transform=transform)
        assert data[0][0].shape == (3, 8, 8)
        assert (data.picture(0) == pixels(0, (8, 8, 1))).all()

    def test_own_picture(self):
        data = ImageSet(pairs(), picture=pixels)
        np.testing.assert_array_equal(data.picture(3), pixels(3))
        assert data.content_hash(3) == ImageSet([(pixels(3), 0)]).content_hash(0)

    def test_one_pixel(self):
        data = ImageSet([(Image.new("RGB", (1, 1), (9, 8, 7)), 0)])
        assert data.picture(0).tolist() == [[[9, 8, 7]]]
        assert data[0][0].shape == (3, 1, 1)


class TestContentHash:
    def test_is_blake2b_of_shape_and_pixels(self):
        picture = pixels(5)
        expected = hashlib.blake2b(b"(8, 8, 3)" + picture.tobytes(), digest_size=16).hexdigest()
        assert ImageSet([(picture, 0)]).content_hash(0) == expected

    def test_knows_shape_and_every_pixel_but_not_the_transform(self):
        picture = pixels(5)
        known = ImageSet([(picture, 0)]).content_hash(0)
        changed = picture.copy()
        changed[7, 7, 2] ^= 1
        reshaped = picture.reshape(4, 16, 3)
        hashes = {ImageSet([(p, 0)]).content_hash(0) for p in (picture, changed, reshaped)}
        assert len(hashes) == 3
        resize = transforms.Compose([transforms.Resize(4), transforms.ToTensor()])
        assert ImageSet([(picture, 0)], transform=resize).content_hash(0) == known

    def test_is_read_once(self):
        dataset = Reads()
        data = ImageSet(dataset, ids="abcd")
        assert data.content_hash(2) == data.subset([2]).content_hash(0)
        assert dataset.reads == 1


class TestBatches:
    def test_batch(self):
        data = ImageSet(pairs(), ids="abcd")
        batch = data.batch(torch.tensor([3, 1]))
        assert torch.equal(batch.images[0], data[3][0])
        assert batch.labels.tolist() == [1, 1]
        assert batch.indices.tolist() == [3, 1]
        assert len(batch) == 2
        assert batch.to("cpu").labels.dtype == batch.indices.dtype == torch.int64
        assert data.batch([-1]).indices.tolist() == [3]

    def test_unreadable_images_are_left_out_named_and_counted(self):
        data = ImageSet(Reads(6, broken=(1, 4), targets=[i % 2 for i in range(6)]), ids="abcdef")
        with pytest.raises(
            UnreadableImageError, match=r"image 'b' cannot be read: OSError: truncated file$"
        ):
            data[1]
        with pytest.warns(RuntimeWarning) as caught:
            batches = list(data.batches(2))
        assert [batch.indices.tolist() for batch in batches] == [[0], [2, 3], [5]]
        assert data.skipped == {"b": "OSError: truncated file", "e": "OSError: truncated file"}
        assert [str(w.message).split(" image")[0] for w in caught] == ["1", "2"]
        assert "'b'" in str(caught[0].message)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # said once, not again
            list(data.batches(2))
        assert len(data.batch([1])) == 0
        assert data.subset([0, 4]).skipped == {"e": "OSError: truncated file"}

    def test_nothing_readable_is_an_error(self):
        data = ImageSet(Reads(2, broken=(0, 1), targets=[0, 1]), ids="ab")
        with pytest.warns(RuntimeWarning), pytest.raises(UnreadableImageError, match="'a'"):
            list(data.batches(2))

    @pytest.mark.filterwarnings("ignore::RuntimeWarning")
    def test_unreadable_images_when_only_reading_tells_ids_and_labels(self):
        data = ImageSet(Reads(3, broken=(1,)))
        assert data.ids[1] == "unreadable-1"
        assert data.labels.tolist() == [0, -1, 0]
        assert data.batch(range(3)).indices.tolist() == [0, 2]

    def test_nan_names_the_image(self):
        images = pairs()
        images[2][0][0, 0, 0] = float("nan")
        data = ImageSet(images, ids="abcd")
        with pytest.raises(UnreadableImageError, match=r"'c'.*NaN"):
            data[2]
        with pytest.raises(UnreadableImageError, match=r"'c'.*NaN"):
            data.picture(2)
        with pytest.warns(RuntimeWarning, match="'c'"):
            assert len(data.batch(range(4))) == 3

    def test_different_sizes_name_both_images(self):
        data = ImageSet([(pixels(0), 0), (pixels(1, (9, 8, 3)), 0)], ids="ab")
        with pytest.raises(ValueError, match=r"'a' is \[3, 8, 8\], 'b' is \[3, 9, 8\].*transform="):
            data.batch([0, 1])

    def test_index_errors(self):
        data = ImageSet(pairs(), ids="abcd")
        with pytest.raises(IndexError, match="index 4 is outside this set of 4 images"):
            data[4]
        assert len(list(data)) == 4  # iteration ends

    def test_errors_can_be_pickled(self):
        error = pickle.loads(pickle.dumps(UnreadableImageError("a", "b")))
        assert (error.image_id, error.reason, str(error)) == (
            "a",
            "b",
            "image 'a' cannot be read: b",
        )


class TestSubset:
    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.integers(0, 5), min_size=1, unique=True))
    def test_keeps_everything_together(self, indices):
        masks = [torch.full((8, 8), i % 2 == 0) for i in range(6)]
        names = [f"image {i}" for i in range(6)]
        data = ImageSet(pairs(6), ids=names, groups=range(6), masks=masks)
        part = data.subset(indices)
        nested = part.subset(range(len(indices)))
        assert part.ids == nested.ids == tuple(names[i] for i in indices)
        assert part.groups.tolist() == indices
        assert part.group_names == data.group_names
        assert part.labels.tolist() == [i % 2 for i in indices]
        for position, index in enumerate(indices):
            assert torch.equal(part[position][0], data[index][0])
            assert torch.equal(part.mask(position), masks[index])
            assert part.index(names[index]) == position
        assert len(part) == len(indices)

    def test_refuses_repeats_and_nothing(self):
        data = ImageSet(pairs(), ids="abcd")
        with pytest.raises(ValueError, match="index -1 twice"):
            data.subset([3, 0, -1])
        with pytest.raises(ValueError, match="no indices"):
            data.subset([])
        assert "a" not in data.subset([1])


def test_masks_as_sequence_callable_or_missing():
    data = ImageSet(pairs(), ids="abcd", masks=[np.eye(8), None, np.zeros((8, 8)), np.zeros(3)])
    assert data.has_masks
    assert data.mask(0).sum() == 8
    assert data.mask(1) is None
    with pytest.raises(TypeError, match="image 'd'"):
        data.mask(3)
    assert ImageSet(pairs(), masks=lambda i: torch.full((2, 2), i == 1)).mask(1).all()
    assert not ImageSet(pairs()).has_masks
    assert ImageSet(pairs()).mask(0) is None


def test_tensor_dataset():
    dataset = TensorDataset(torch.rand(5, 1, 6, 6), torch.arange(5) % 3)
    data = ImageSet(dataset, groups=torch.arange(5) % 2, group_names=["land", "water"])
    assert data.num_classes == 3
    assert data.picture(0).shape == (6, 6, 3)
    assert "5 images, 2 groups" in repr(data)


class Watched(io.BytesIO):
    """A file that notices when two threads read it at once."""

    busy, clashes = False, 0

    def read(self, size=-1):
        self.clashes += self.busy
        self.busy = True
        time.sleep(0.001)
        data = super().read(size)
        self.busy = False
        return data


def test_threads_never_decode_one_image_at_once():
    """PIL decodes late and not safely from two threads; the set must."""
    files, images = [], []
    for seed in range(5):
        buffer = io.BytesIO()
        Image.fromarray(pixels(seed, (64, 64, 3))).save(buffer, "PNG")
        files.append(Watched(buffer.getvalue()))
        images.append((Image.open(files[-1]), seed % 2))
    data = ImageSet(images, ids="abcde")
    wrong = []

    def read():
        for i in range(5):
            data[i]
            if not np.array_equal(data.picture(i), pixels(i, (64, 64, 3))):
                wrong.append(i)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not data.skipped
    assert [file.clashes for file in files] == [0] * 5


def test_data_loader_workers_get_a_lock_of_their_own():
    data = ImageSet(pairs(8), ids=[str(i) for i in range(8)])
    assert pickle.loads(pickle.dumps(data)).ids == data.ids
    locked, release = threading.Event(), threading.Event()

    def hold():
        with data._store._guard():
            locked.set()
            release.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    locked.wait()
    try:  # the worker is forked while another thread holds the lock
        loader = DataLoader(
            data, batch_size=4, num_workers=1, timeout=30, multiprocessing_context="fork"
        )
        assert sum(len(labels) for _, labels in loader) == 8
    finally:
        release.set()
        holder.join()


def test_images_may_have_several_labels():
    images = [(torch.rand(1, 4, 4), None) for _ in range(3)]
    table = [[1, 0], [0, 0], [1, 1]]
    data = ImageSet(images, ids=["a", "b", "c"], labels=table)
    assert data.class_names == ("0", "1")
    assert data.labels.tolist() == [[True, False], [False, False], [True, True]]
    assert data[2][1].tolist() == [True, True]
    batch = data.subset([2, 0]).batch([1, 0])
    assert batch.labels.tolist() == [[True, False], [True, True]]
    assert data.batch([]).labels.shape == (0, 2)
    for labels, words in (
        ([[1, 0], [0, 2], [1, 1]], "True and False"),
        (table[:2], "labels"),
        ([[1, 0, 1]] * 3, "3 classes.*2 class names"),
    ):
        with pytest.raises(ValueError, match=words):
            _ = ImageSet(images, labels=labels, class_names=["x", "y"]).labels
