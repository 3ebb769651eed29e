"""Loaders for what lies on disk, on small trees made here and on real photographs where they are."""

from __future__ import annotations

import csv
import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

from xfeedback_widgets import data as xdata

SMALL = transforms.Compose([transforms.Resize((16, 16)), transforms.ToTensor()])


def write(path, seed=0, size=(20, 24)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


class TestImageFolder:
    def test_is_ordered_and_labelled_like_torchvision(self, tmp_path):
        for number, name in enumerate(
            ["b/2.png", "b/10.PNG", "b/1/1.jpg", "b/a.png", "a c/é 🐈.png", "a c/<b>&.png"]
        ):
            write(tmp_path / name, number)
        reference = ImageFolder(tmp_path)
        data = xdata.image_folder(tmp_path, SMALL)
        assert data.ids == tuple(xdata.ImageSet(reference).ids)
        assert set(data.ids) == {
            "a c/<b>&.png",
            "a c/é 🐈.png",
            "b/10.PNG",
            "b/2.png",
            "b/a.png",
            "b/1/1.jpg",
        }
        assert data.labels.tolist() == reference.targets
        assert data.class_names == ("a c", "b")
        np.testing.assert_array_equal(data[0][0], SMALL(reference[0][0]))

    def test_default_is_what_imagenet_models_expect(self, tmp_path):
        write(tmp_path / "x" / "1.png", size=(300, 400))
        data = xdata.image_folder(tmp_path, class_names=["<ex>"])
        assert data[0][0].shape == (3, 224, 224)
        assert data.picture(0).shape == (224, 224, 3)
        assert data.class_names == ("<ex>",)
        assert data[0][0].min() < -1

    def test_hidden_files_are_passed_over_and_empty_classes_keep_their_number(self, tmp_path):
        write(tmp_path / "b" / "1.png")
        for name in ["b/._1.png", ".ipynb_checkpoints/1.png", "b/.cache/1.png"]:
            write(tmp_path / name)
        (tmp_path / "b" / "notes.txt").write_text("no image")
        (tmp_path / "a").mkdir()
        data = xdata.image_folder(tmp_path)
        assert data.ids == ("b/1.png",)
        assert data.labels.tolist() == [1]

    def test_corrupt_files_are_named_and_left_out(self, tmp_path):
        for number in range(3):
            write(tmp_path / "a" / f"{number}.jpg", number)
        whole = (tmp_path / "a" / "1.jpg").read_bytes()
        (tmp_path / "a" / "1.jpg").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "a" / "2.jpg").write_bytes(b"")
        (tmp_path / "a" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
        data = xdata.image_folder(tmp_path, SMALL)
        with pytest.warns(RuntimeWarning, match=r"3 image\(s\) cannot be read.*'a/1.jpg'"):
            assert data.batch(range(4)).indices.tolist() == [0]
        assert sorted(data.skipped) == ["a/1.jpg", "a/2.jpg", "a/3.png"]

    def test_what_is_wrong_is_said(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no folder at"):
            xdata.image_folder(tmp_path / "missing")
        write(tmp_path / "1.png")
        with pytest.raises(FileNotFoundError, match="one folder per class"):
            xdata.image_folder(tmp_path)

    def test_real_photographs(self, tmp_path, shared_data):
        with zipfile.ZipFile(shared_data / "tiny_imagenet_val_boxes" / "images.zip") as archive:
            names = [
                name for name in archive.namelist() if name.lower().endswith((".jpeg", ".jpg"))
            ][:24]
            for number, name in enumerate(names):
                target = tmp_path / f"class {number % 3}" / name.rsplit("/", 1)[-1]
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(archive.read(name))
        data = xdata.image_folder(tmp_path)
        batches = list(data.batches(10))
        assert [len(batch) for batch in batches] == [10, 10, 4]
        values = torch.cat([batch.images for batch in batches])
        assert values.shape == (24, 3, 224, 224)
        assert abs(float(values.mean())) < 0.5  # photographs, normalised
        assert 0.5 < float(values.std()) < 2
        assert len({data.content_hash(i) for i in range(24)}) == 24
        assert not data.skipped


def make_waterbirds(root, rows, below=""):
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["img_id", "img_filename", "y", "split", "place", "place_filename"])
        for number, (name, y, split, place) in enumerate(rows):
            writer.writerow([number, name, y, split, place, "/o/ocean/1.jpg"])
            if ".." not in name and not name.startswith("/") and "\\" not in name:
                write(root / below / name, number)


BIRDS = [
    ("001.Black_footed_Albatross/b.jpg", 1, 0, 1),
    ("002.Sparrow/a.jpg", 0, 0, 1),
    ("001.Black_footed_Albatross/a.jpg", 1, 1, 0),
    ("003.Gull/x.jpg", 1, 2, 0),
    ("002.Sparrow/b.jpg", 0, 0, 0),
]


class TestWaterbirds:
    @pytest.mark.parametrize("below", ["", "images"])
    def test_order_groups_and_names(self, tmp_path, below):
        make_waterbirds(tmp_path, BIRDS, below)
        data = xdata.waterbirds(tmp_path, "train", transform=SMALL)
        assert data.ids == (
            BIRDS[0][0],
            BIRDS[1][0],
            BIRDS[4][0],
        )  # the order of the table, not of the names
        assert data.labels.tolist() == [1, 0, 0]
        assert data.groups.tolist() == [3, 1, 0]
        assert data.group_names[3] == "waterbird on water"
        assert data.class_names == ("landbird", "waterbird")
        assert not data.has_masks
        assert len(data.batch(range(3))) == 3
        assert xdata.waterbirds(tmp_path, "test").ids == (BIRDS[3][0],)

    def test_segmentations_go_through_the_transform(self, tmp_path):
        make_waterbirds(tmp_path, BIRDS)
        mask = np.zeros((20, 24), np.uint8)
        mask[:, :12] = 255
        target = tmp_path / "segmentations" / BIRDS[0][0].replace(".jpg", ".png")
        target.parent.mkdir(parents=True)
        Image.fromarray(mask).save(target)
        data = xdata.waterbirds(tmp_path, "train", transform=SMALL)
        assert data.has_masks
        assert data.mask(0).shape == (16, 16)
        assert data.mask(0)[:, :7].all()
        assert not data.mask(0)[:, 9:].any()
        assert data.mask(1) is None
        with pytest.raises(FileNotFoundError, match="segmentations"):
            xdata.waterbirds(tmp_path, segmentations=tmp_path / "nowhere")

    @pytest.mark.parametrize(
        "name",
        ["../../etc/passwd.jpg", "/etc/passwd", "a/../../b.jpg", "C:\\b.jpg", "..\\b.jpg", ""],
    )
    def test_paths_out_of_the_folder_are_refused_with_their_row(self, tmp_path, name):
        make_waterbirds(tmp_path, [BIRDS[0]])
        with (tmp_path / "metadata.csv").open("a", newline="") as file:
            csv.writer(file).writerow([1, name, 0, 0, 0, ""])
        with pytest.raises(ValueError, match=r"metadata.csv, line 3: the file name .* is refused"):
            xdata.waterbirds(tmp_path)

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            (("a.jpg", 2, 0, 0), "line 2: y is '2'"),
            (("a.jpg", "", 0, 0), "line 2: y is ''"),
            (("a.jpg", 0, 9, 0), "split is '9'"),
            (("a.jpg", 0, 0, "land"), "place is 'land'"),
        ],
    )
    def test_bad_numbers_are_named(self, tmp_path, row, message):
        make_waterbirds(tmp_path, [row])
        with pytest.raises(ValueError, match=message):
            xdata.waterbirds(tmp_path)

    def test_what_else_is_wrong_is_said(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no metadata.csv.*waterbird_complete95"):
            xdata.waterbirds(tmp_path)
        with pytest.raises(
            ValueError, match=r"split is 'dev'; expected one of \['train', 'val', 'test'\]"
        ):
            xdata.waterbirds(tmp_path, "dev")
        (tmp_path / "metadata.csv").write_text("img_filename,label\na.jpg,0\n")
        with pytest.raises(ValueError, match=r"lacks the columns \['y', 'split', 'place'\]"):
            xdata.waterbirds(tmp_path)
        make_waterbirds(tmp_path, [BIRDS[0]])
        with pytest.raises(ValueError, match="no row of the split 'test'"):
            xdata.waterbirds(tmp_path, "test")


ATTRIBUTES = ["Attractive", "Black_Hair", "Blond_Hair", "Smiling", "Young"]


def make_celeba(home, count=64):
    """A CelebA of `count` faces; every combination of black, blond and smiling, every partition."""
    home.mkdir(exist_ok=True)
    (home / "img_align_celeba").mkdir()
    table, partition = [str(count), " ".join(ATTRIBUTES)], []
    for number in range(count):
        name = f"{number + 1:06d}.jpg"
        black, blond, smiling = (number >> bit & 1 for bit in range(3))
        signs = " ".join(f"{2 * bit - 1:2d}" for bit in (1, black, blond, smiling, 0))
        table.append(f"{name} {signs}")
        partition.append(f"{name} {0 if number < count // 2 else 1 + number % 2}")
        write(home / "img_align_celeba" / name, number)
    (home / "list_attr_celeba.txt").write_text("\n".join(table) + "\n")
    (home / "list_eval_partition.txt").write_text("\n".join(partition) + "\n")


def crayon_list(path, rows):
    lines = ["Filename " + " ".join(ATTRIBUTES)]
    lines += [f"{name} 1 {black} {blond} {smiling} 0" for name, black, blond, smiling in rows]
    path.write_text("\n".join(lines) + "\n")


class TestCelebA:
    def test_draw_follows_the_rule(self, tmp_path):
        make_celeba(tmp_path / "celeba")
        data = xdata.celeba(tmp_path, "train", per_group=(3, 1), transform=SMALL)
        assert torch.bincount(data.groups).tolist() == [3, 1, 1, 3]
        assert torch.equal(data.labels, data.groups // 2)
        assert data.class_names == ("blond", "black")
        assert data.group_names[3] == "black, smiling"
        assert list(data.ids) == sorted(data.ids)
        for image_id, group in zip(data.ids, data.groups.tolist(), strict=True):
            number = int(image_id[:-4]) - 1
            assert number < 32  # the training partition
            assert (number & 1, number >> 1 & 1, number >> 2 & 1) == (
                group // 2,
                1 - group // 2,
                group % 2,
            )
        assert len(data.batch(range(8))) == 8

    def test_test_split_takes_validation_and_test_partitions(self, tmp_path):
        make_celeba(tmp_path / "celeba")
        data = xdata.celeba(tmp_path, "test", per_group=(4, 4))
        assert torch.bincount(data.groups).tolist() == [
            4,
            4,
            4,
            4,
        ]  # all there are, of both partitions
        assert min(int(image_id[:-4]) for image_id in data.ids) > 32

    def test_seed_decides_the_draw(self, tmp_path):
        make_celeba(tmp_path / "celeba")
        draws = [xdata.celeba(tmp_path, per_group=(2, 2), seed=seed).ids for seed in (0, 0, 1)]
        assert draws[0] == draws[1] != draws[2]

    def test_too_few_images_name_the_group(self, tmp_path):
        make_celeba(tmp_path / "celeba")
        with pytest.raises(
            ValueError, match=r"4 images of the group 'blond, not smiling'.*10000.*per_group="
        ):
            xdata.celeba(tmp_path)

    def test_published_list_is_found_and_keeps_its_order(self, tmp_path):
        make_celeba(tmp_path)
        rows = [("000002.jpg", 1, 0, 0), ("000001.jpg", 0, 1, 0), ("000006.jpg", 1, 0, 1)]
        crayon_list(tmp_path / "biased_celeba_black_hair_1_100_train.csv", rows)
        data = xdata.celeba(tmp_path, "train")
        assert data.ids == ("000002.jpg", "000001.jpg", "000006.jpg")
        assert data.groups.tolist() == [2, 0, 3]
        crayon_list(tmp_path / "mine.csv", rows[:1])
        assert len(xdata.celeba(tmp_path, list_file=tmp_path / "mine.csv")) == 1

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            (("000001.jpg", 1, 1, 0), "line 2: 000001.jpg must have either black or blond"),
            (("../000001.jpg", 1, 0, 0), "line 2: the file name .* is refused"),
            (("000001.jpg", 1, 0, "0 0"), "line 2 has 6 attributes, its heading 5"),
        ],
    )
    def test_bad_rows_are_named(self, tmp_path, row, message):
        make_celeba(tmp_path)
        crayon_list(tmp_path / "mine.csv", [row])
        with pytest.raises(ValueError, match=message):
            xdata.celeba(tmp_path, list_file=tmp_path / "mine.csv")

    def test_missing_tables_are_named(self, tmp_path):
        (tmp_path / "img_align_celeba").mkdir()
        with pytest.raises(FileNotFoundError, match=r"list_eval_partition.txt.*list_file="):
            xdata.celeba(tmp_path)
        with pytest.raises(ValueError, match="split is 'valid'"):
            xdata.celeba(tmp_path, "valid")

    def test_published_lists_obey_the_rule_as_documented(self, tmp_path, shared_data):
        (tmp_path / "img_align_celeba").mkdir()
        lists = shared_data / "crayon_feedback" / "data"
        for name in (
            "biased_celeba_black_hair_1_100_train.csv",
            "biased_celeba_black_hair_test.csv",
        ):
            (tmp_path / name).write_bytes((lists / name).read_bytes())
        train, test = xdata.celeba(tmp_path, "train"), xdata.celeba(tmp_path, "test")
        assert len(train) == 20_200  # as many as CRAYON's recorded answers
        assert torch.bincount(train.groups).tolist() == [10_000, 100, 100, 10_000]
        assert torch.bincount(test.groups).tolist() == [2_000] * 4
        assert (
            max(train.ids) <= "162770.jpg" < min(test.ids)
        )  # the end of CelebA's training partition


IN9 = [
    "dog",
    "bird",
    "wheeled vehicle",
    "reptile",
    "carnivore",
    "insect",
    "musical instrument",
    "primate",
    "fish",
]


class TestImageNet9:
    def make(self, root, variant="original", split="val"):
        for label, name in enumerate(IN9):
            write(root / variant / split / f"{label:02d}_{name}" / f"fg_{label}.JPEG", label)

    def test_labels_names_and_ids(self, tmp_path):
        self.make(tmp_path)
        self.make(tmp_path, "mixed_rand")
        data = xdata.imagenet9(tmp_path, "val", variant="mixed_rand", transform=SMALL)
        assert data.labels.tolist() == list(range(9))
        assert data.class_names == tuple(IN9)
        assert data.ids[2] == "mixed_rand/val/02_wheeled vehicle/fg_2.JPEG"
        assert data[8][1] == 8

    def test_what_is_wrong_is_said(self, tmp_path):
        self.make(tmp_path)
        with pytest.raises(
            FileNotFoundError, match=r"no folder 'mixed_same' in .*found \['original'\]"
        ):
            xdata.imagenet9(tmp_path, variant="mixed_same")
        with pytest.raises(FileNotFoundError, match=r"no folder 'train' in .*found \['val'\]"):
            xdata.imagenet9(tmp_path, "train")
        with pytest.raises(ValueError, match="refused"):
            xdata.imagenet9(tmp_path, variant="..")
        for path in (tmp_path / "original" / "val" / "08_fish").iterdir():
            path.unlink()
        (tmp_path / "original" / "val" / "08_fish").rmdir()
        with pytest.raises(ValueError, match=r"lacks the class folders \['08_fish'\]"):
            xdata.imagenet9(tmp_path)


def test_real_trimaps_as_masks(tmp_path, shared_data):
    """The mask of a real pet, sent through the default transform, stays on the pet."""
    with zipfile.ZipFile(shared_data / "pets3_trimaps" / "images.zip") as archive:
        names = archive.namelist()
        trimap = next(
            n for n in names if "trimap" in n and "american_bulldog" in n and n.endswith(".png")
        )
        trimap_image = Image.open(io.BytesIO(archive.read(trimap)))
    relevant = Image.fromarray(np.where(np.array(trimap_image) == 2, 0, 255).astype(np.uint8))
    seen = xdata.pictures.transform_mask(relevant, xdata.imagenet_transform())
    assert seen.shape == (224, 224)
    reference = transforms.Compose(
        [transforms.Resize(256, transforms.InterpolationMode.NEAREST), transforms.CenterCrop(224)]
    )(relevant)
    assert (seen.numpy() == (np.array(reference) > 0)).mean() > 0.98
    assert 0.05 < seen.float().mean() < 0.95
