"""Image sets from what lies on disk: class folders, Waterbirds, biased CelebA, ImageNet-9.

Only lists and folder names are read here; pixels are read when an image is asked for, and a corrupt file is
then named and left out (see ``ImageSet.skipped``). Nothing is downloaded. The digits that ship by pip are
in :mod:`xfeedback_widgets.data.digits`.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from xfeedback_widgets.data import pictures
from xfeedback_widgets.data.imageset import ImageSet

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's red, green and blue in [0, 1]."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of ImageNet's red, green and blue."""

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""Files that :func:`image_folder` takes for images, in any case."""

_WATERBIRDS_SPLITS = {"train": 0, "val": 1, "test": 2}
_WATERBIRDS_COLUMNS = ("img_filename", "y", "split", "place")
_CELEBA_LISTS = {
    "train": "biased_celeba_black_hair_1_100_train.csv",
    "test": "biased_celeba_black_hair_test.csv",
}
_CELEBA_PARTITIONS = {"train": frozenset({0}), "test": frozenset({1, 2})}
_CELEBA_COUNTS = {"train": (10_000, 100), "test": (2_000, 2_000)}
_CELEBA_GROUPS = ("blond, not smiling", "blond, smiling", "black, not smiling", "black, smiling")
_IMAGENET9_CLASSES = (
    "00_dog",
    "01_bird",
    "02_wheeled vehicle",
    "03_reptile",
    "04_carnivore",
    "05_insect",
    "06_musical instrument",
    "07_primate",
    "08_fish",
)


def imagenet_transform() -> Callable[[Any], Tensor]:
    """Return what ImageNet models expect: shorter side to 256, centre crop of 224, mean and std.

    The default of every loader here. Uses :data:`IMAGENET_MEAN` and :data:`IMAGENET_STD`.
    """
    from torchvision import transforms

    transform: Callable[[Any], Tensor] = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    return transform


def image_folder(
    root: str | os.PathLike[str],
    transform: Callable[[Any], Tensor] | None = None,
    *,
    class_names: Sequence[str] | None = None,
) -> ImageSet:
    """Wrap a folder with one sub-folder per class, as torchvision's ``ImageFolder`` does.

    Parameters
    ----------
    root
        ``root/cat/001.jpg``, ``root/cat/more/002.png``, ``root/dog/…``. Hidden files and folders
        (``._1.jpg``, ``.ipynb_checkpoints``) are passed over; a class folder without images keeps its
        number.
    transform
        Picture to tensor; default :func:`imagenet_transform`.
    class_names
        Names shown to people, in the order of the sorted folder names; default: the folder names.

    Returns
    -------
    ImageSet
        In ``ImageFolder``'s order. Ids are paths relative to `root`, with forward slashes on every system.

    Raises
    ------
    FileNotFoundError
        No such folder, or no image in it; with the layout that is expected.
    """
    top = _existing(root)
    folders = sorted(entry.name for entry in top.iterdir() if _visible_folder(entry))
    samples = [
        (str(path), label)
        for label, name in enumerate(folders)
        for path in _images_below(top / name)
    ]
    if not samples:
        raise FileNotFoundError(
            f"no images in folders below {top}; expected one folder per class: "
            f"{top.name}/cat/001.jpg, {top.name}/dog/001.jpg "
            f"({', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    return ImageSet(
        _Files(top, samples, class_names or folders), transform=transform or imagenet_transform()
    )


def waterbirds(
    root: str | os.PathLike[str],
    split: str = "train",
    *,
    transform: Callable[[Any], Tensor] | None = None,
    segmentations: str | os.PathLike[str] | None = None,
) -> ImageSet:
    """Wrap Waterbirds as published (``waterbird_complete95_forest2water2``).

    Parameters
    ----------
    root
        The unpacked archive: ``metadata.csv`` with the columns ``img_filename, y, split, place`` beside the
        200 species folders, or those folders below ``root/images``.
    split
        ``"train"``, ``"val"`` or ``"test"``.
    transform
        Picture to tensor; default :func:`imagenet_transform`. Masks go through it as well.
    segmentations
        CUB-200-2011's folder of segmentations (``001.Black_footed_Albatross/….png``), for masks; default:
        ``root/segmentations`` where it exists, else no masks. A picture without a file has no mask.

    Returns
    -------
    ImageSet
        In the order of ``metadata.csv``, which is the order of CRAYON's feedback. Ids are ``img_filename``;
        classes landbird, waterbird; the group is ``2 y + place``, place being land or water.

    Raises
    ------
    FileNotFoundError
        No folder or no ``metadata.csv``.
    ValueError
        An unknown split, a missing column, a bad number, or a path that leads out of `root`: the row is
        named.
    """
    wanted = _choice("split", split, _WATERBIRDS_SPLITS)
    top = _existing(root)
    table = top / "metadata.csv"
    rows = [row for row in _waterbirds_rows(table) if row.split == wanted]
    if not rows:
        raise ValueError(f"{table} has no row of the split {split!r} ({wanted})")
    base = top if (top / rows[0].file).exists() or not (top / "images").is_dir() else top / "images"
    transform = transform or imagenet_transform()
    folder = Path(segmentations) if segmentations is not None else top / "segmentations"
    if segmentations is not None and not folder.is_dir():
        raise FileNotFoundError(f"no folder of segmentations at {folder}")
    files = [row.file for row in rows]
    return ImageSet(
        _Files(
            base, [(str(base / row.file), row.label) for row in rows], ("landbird", "waterbird")
        ),
        ids=files,
        groups=[2 * row.label + row.place for row in rows],
        group_names=(
            "landbird on land",
            "landbird on water",
            "waterbird on land",
            "waterbird on water",
        ),
        masks=_MaskFiles(folder, files, transform) if folder.is_dir() else None,
        transform=transform,
    )


def celeba(
    root: str | os.PathLike[str],
    split: str = "train",
    *,
    list_file: str | os.PathLike[str] | None = None,
    per_group: tuple[int, int] | None = None,
    seed: int = 0,
    transform: Callable[[Any], Tensor] | None = None,
) -> ImageSet:
    """Wrap CRAYON's biased CelebA: black or blond hair, which smiling gives away in training.

    The rule, as CRAYON's published lists show it: of the people who have either black or blond hair, not
    both, take per group (hair × smiling) for training 10,000 each of black and smiling, blond and not
    smiling, and 100 each of the two others (CelebA's training partition); for the test 2,000 of each group
    (validation and test partitions). The lists themselves are one draw of that rule, in file order; which
    draw, they do not tell, so CRAYON's recorded feedback fits only the published list.

    Parameters
    ----------
    root
        torchvision's layout, ``root/celeba/img_align_celeba/000001.jpg`` with ``list_attr_celeba.txt`` and
        ``list_eval_partition.txt`` beside the image folder; or that inner folder itself.
    split
        ``"train"`` or ``"test"``.
    list_file
        A list in CRAYON's form: a heading ``Filename 5_o_Clock_Shadow …``, then a file name and 40 zeros and
        ones a line. Default: the published list where it lies in `root`
        (``biased_celeba_black_hair_1_100_train.csv``, ``biased_celeba_black_hair_test.csv``), else a draw.
    per_group
        For a draw: how many images of each group that follows the shortcut, and of each that does not.
        Default: (10000, 100) for training, (2000, 2000) for the test.
    seed
        Of the draw.
    transform
        Picture to tensor; default :func:`imagenet_transform`.

    Returns
    -------
    ImageSet
        Ids are file names. Label 1 is black hair, 0 blond; the group is ``2 label + smiling``.

    Raises
    ------
    FileNotFoundError
        A folder or list is missing.
    ValueError
        An unknown split, a malformed row, or too few images of a group: row or group is named.
    """
    _choice("split", split, _CELEBA_PARTITIONS)
    top = _existing(root)
    home = top / "celeba" if (top / "celeba").is_dir() else top
    images = _existing(home / "img_align_celeba")
    published = [path / _CELEBA_LISTS[split] for path in (top, home)]
    chosen = Path(list_file) if list_file else next((p for p in published if p.is_file()), None)
    if chosen is not None:
        faces = _listed_faces(chosen)
    else:
        faces = _draw_faces(home, split, per_group or _CELEBA_COUNTS[split], seed)
    return ImageSet(
        _Files(images, [(str(images / f.file), f.group // 2) for f in faces], ("blond", "black")),
        ids=[face.file for face in faces],
        groups=[face.group for face in faces],
        group_names=_CELEBA_GROUPS,
        transform=transform or imagenet_transform(),
    )


def imagenet9(
    root: str | os.PathLike[str],
    split: str = "val",
    *,
    variant: str = "original",
    transform: Callable[[Any], Tensor] | None = None,
) -> ImageSet:
    """Wrap one variant of ImageNet-9, the Backgrounds Challenge.

    The gap in accuracy between the variants ``mixed_same`` and ``mixed_rand`` is the published BG-gap.

    Parameters
    ----------
    root
        The unpacked release: ``root/original/val/00_dog/….JPEG`` … ``08_fish``.
    split
        A folder of the variant: ``"val"``, or ``"train"`` where training data was added.
    variant
        ``"original"``, ``"mixed_same"``, ``"mixed_rand"``, ``"mixed_next"``, ``"only_fg"``, ``"no_fg"``,
        ``"only_bg_b"``, ``"only_bg_t"``: any folder of `root`.
    transform
        Picture to tensor; default :func:`imagenet_transform`.

    Returns
    -------
    ImageSet
        In the order of the sorted file names, which is the order of CRAYON's feedback. Ids are paths
        relative to `root`; the nine classes are dog … fish.

    Raises
    ------
    FileNotFoundError
        The variant or split is missing (those found are named), or has no images.
    ValueError
        A class folder is missing: labels would be shifted.
    """
    top = _existing(root)
    folder = _below(_below(top, variant), split)
    missing = [name for name in _IMAGENET9_CLASSES if not (folder / name).is_dir()]
    if missing:
        raise ValueError(f"{folder} lacks the class folders {missing}; unpack the release again")
    samples = [
        (str(path), label)
        for label, name in enumerate(_IMAGENET9_CLASSES)
        for path in _images_below(folder / name)
    ]
    if not samples:
        raise FileNotFoundError(f"no images below {folder}")
    names = [name.split("_", 1)[1] for name in _IMAGENET9_CLASSES]
    return ImageSet(_Files(top, samples, names), transform=transform or imagenet_transform())


def mask_folder(
    data: ImageSet, folder: str | os.PathLike[str], *, relevant: Iterable[int] | None = None
) -> Callable[[int], Tensor | None]:
    """Read masks kept as PNG files named like the images, through the images' resize and crop.

    Parameters
    ----------
    data
        Whose ids name the files: ``cat/001.jpg`` has its mask in ``cat/001.png`` or ``001.png``.
    folder
        Where the masks lie.
    relevant
        Pixel values that are relevant: ``[1]`` for Oxford-IIIT Pet's trimaps (1 pet, 2 background,
        3 border), the class's number for a segmentation. Default: whatever is bright.

    Returns
    -------
    callable
        Position in `data` to bool ``[H, W]``, or None for an image without a file; what
        ``xf.audit(masks=…)`` takes.

    Raises
    ------
    FileNotFoundError
        No such folder, or no mask in it for any image.
    """
    from torchvision.transforms import Compose, ToTensor

    top = _existing(folder)
    files = [Path(image_id).with_suffix(".png") for image_id in data.ids]
    found = [file if (top / file).is_file() else Path(file.name) for file in files]
    if not any((top / file).is_file() for file in found):
        raise FileNotFoundError(f"{top} holds no mask of any image, such as {files[0]}")
    steps = data.preprocessing or (ToTensor(),)
    return _MaskFiles(top, [str(file) for file in found], Compose(list(steps)), relevant)


class _Files:
    """Image files and their labels, with the attributes torchvision's folders have."""

    def __init__(self, root: Path, samples: list[tuple[str, int]], classes: Sequence[str]) -> None:
        self.root = root
        self.samples = samples
        self.classes = list(classes)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        path, label = self.samples[index]
        with Image.open(path) as image:
            image.load()  # the file is closed on leaving
            return image, label


class _MaskFiles:
    """Masks kept as PNG files named like their pictures, seen through the pictures' transform."""

    def __init__(
        self,
        folder: Path,
        files: Sequence[str],
        transform: Callable[[Any], Tensor],
        relevant: Iterable[int] | None = None,
    ) -> None:
        self.paths = [folder / Path(file).with_suffix(".png") for file in files]
        self.transform = transform
        self.relevant = None if relevant is None else sorted(relevant)

    def __call__(self, position: int) -> Tensor | None:
        path = self.paths[position]
        if not path.is_file():
            return None
        with Image.open(path) as mask:
            if self.relevant is None:
                return pictures.transform_mask(mask, self.transform)
            flags = np.isin(np.array(mask), self.relevant)
        return pictures.transform_mask(Image.fromarray(flags), self.transform)


class _Bird(NamedTuple):
    file: str
    label: int
    split: int
    place: int


class _Face(NamedTuple):
    file: str
    group: int


def _waterbirds_rows(table: Path) -> Iterable[_Bird]:
    """Yield the checked rows of Waterbirds' ``metadata.csv``."""
    if not table.is_file():
        raise FileNotFoundError(
            f"no {table.name} in {table.parent}; give the folder of the unpacked archive "
            "waterbird_complete95_forest2water2"
        )
    with table.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        missing = [name for name in _WATERBIRDS_COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{table} lacks the columns {missing}; it has {reader.fieldnames}")
        for row in reader:
            where = f"{table}, line {reader.line_num}"
            yield _Bird(
                _inside(row["img_filename"], where),
                _small(row["y"], "y", 1, where),
                _small(row["split"], "split", 2, where),
                _small(row["place"], "place", 1, where),
            )


def _listed_faces(path: Path) -> list[_Face]:
    """Read a list in CRAYON's form, in its order."""
    if not path.is_file():
        raise FileNotFoundError(f"no list of images at {path}")
    lines = path.read_text(encoding="utf-8").splitlines()
    names = lines[0].split()[1:] if lines else []
    columns = _columns(names, path)
    faces = []
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split()
        if cells:
            faces.append(_face(cells, columns, len(names), f"{path}, line {number}"))
    if not faces:
        raise ValueError(f"{path} lists no images")
    return faces


def _face(cells: list[str], columns: tuple[int, int, int], width: int, where: str) -> _Face:
    """Turn one row (file name, then attributes) into a face with black or blond hair."""
    if len(cells) != width + 1:
        raise ValueError(f"{where} has {len(cells) - 1} attributes, its heading {width}")
    black, blond, smiling = (int(cells[1 + column] == "1") for column in columns)
    if black == blond:
        raise ValueError(
            f"{where}: {cells[0]} must have either black or blond hair, "
            f"Black_Hair is {black} and Blond_Hair is {blond}"
        )
    return _Face(_inside(cells[0], where), 2 * black + smiling)


def _draw_faces(home: Path, split: str, counts: tuple[int, int], seed: int) -> list[_Face]:
    """Draw faces by the rule of CRAYON's lists from CelebA's own tables, in file order."""
    found: list[list[_Face]] = [[], [], [], []]
    partition = _partitions(home / "list_eval_partition.txt")
    for face in _all_faces(home / "list_attr_celeba.txt"):
        if partition.get(face.file) in _CELEBA_PARTITIONS[split]:
            found[face.group].append(face)
    generator = np.random.default_rng(seed)
    drawn: list[_Face] = []
    for group, faces in enumerate(found):
        follows_shortcut = group in (0, 3)  # blond and serious, black and smiling
        count = counts[0] if follows_shortcut else counts[1]
        if count > len(faces):
            raise ValueError(
                f"{home} has {len(faces)} images of the group {_CELEBA_GROUPS[group]!r} for the split "
                f"{split!r}, {count} are wanted; pass per_group= with smaller numbers"
            )
        drawn += [faces[i] for i in generator.choice(len(faces), size=count, replace=False)]
    if not drawn:
        raise ValueError(f"per_group={counts} asks for no image at all")
    return sorted(drawn)


def _all_faces(path: Path) -> Iterable[_Face]:
    """Yield the faces of ``list_attr_celeba.txt`` (a count, the names, -1 or 1 each) that qualify."""
    lines = _table(path).splitlines()
    names = lines[1].split() if len(lines) > 1 else []
    black, blond, _ = columns = _columns(names, path)
    for number, line in enumerate(lines[2:], start=3):
        cells = line.split()
        if len(cells) > 1 + max(black, blond) and cells[1 + black] != cells[1 + blond]:
            yield _face(cells, columns, len(names), f"{path}, line {number}")


def _partitions(path: Path) -> dict[str, int]:
    """Read ``list_eval_partition.txt``: 0 training, 1 validation, 2 test."""
    rows = (line.split() for line in _table(path).splitlines() if line.strip())
    return {row[0]: _small(row[-1], "partition", 2, f"{path}, {row[0]}") for row in rows}


def _table(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(
            f"no {path.name} in {path.parent}; it belongs to CelebA. Or pass list_file= with a list of "
            "images and attributes"
        )
    return path.read_text(encoding="utf-8")


def _columns(names: list[str], path: Path) -> tuple[int, int, int]:
    wanted = ("Black_Hair", "Blond_Hair", "Smiling")
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ValueError(f"{path} lacks the attributes {missing} in its heading {names[:5]}…")
    return names.index(wanted[0]), names.index(wanted[1]), names.index(wanted[2])


def _inside(name: str | None, where: str) -> str:
    """Return a relative file name from a table; refuse one that leads out of the folder."""
    windows = PureWindowsPath(name or "")  # splits at both kinds of slash
    if not name or windows.drive or windows.root or ".." in windows.parts:
        raise ValueError(f"{where}: the file name {name!r} is refused, it leads out of the folder")
    return name


def _small(text: str | None, name: str, highest: int, where: str) -> int:
    if not re.fullmatch(f"[0-{highest}]", (text or "").strip()):
        raise ValueError(f"{where}: {name} is {text!r}, expected a whole number 0 … {highest}")
    return int(text or "")


def _choice(name: str, value: str, known: Any) -> Any:
    if value not in known:
        raise ValueError(f"{name} is {value!r}; expected one of {list(known)}")
    return known[value]


def _existing(root: str | os.PathLike[str]) -> Path:
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder at {folder}")
    return folder


def _below(folder: Path, name: str) -> Path:
    if not (folder / _inside(name, str(folder))).is_dir():
        found = sorted(entry.name for entry in folder.iterdir() if _visible_folder(entry))
        raise FileNotFoundError(f"no folder {name!r} in {folder}; found {found}")
    return folder / name


def _visible_folder(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def _images_below(folder: Path) -> list[Path]:
    """Return the image files of a class, in the order of torchvision's ``ImageFolder``."""
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    return sorted(found, key=lambda path: (str(path.parent), path.name))
