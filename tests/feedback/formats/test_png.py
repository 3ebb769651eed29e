"""PNG masks: every id and every mask comes back, other tools can read them, hostile files are refused."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from xfeedback_widgets.feedback import (
    ExchangeError,
    Feedback,
    RegionMask,
    Verdict,
    export_png,
    import_png,
)

MASKS = hnp.arrays(
    np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(-1, 1)
)
IDS = st.text(st.characters(codec=None, exclude_categories=()), min_size=1, max_size=20)
HARD_IDS = [
    *("../../etc/passwd", "/a", "a\\b", "C:\\x", "..", ".", ".hidden", "con", "COM1.png", "A", "a"),
    *("bild\udce4.png", "🦆/ö", "a%2Fb", "a/b", " ", "\0", "x" * 200, "nul.txt"),
]


def names_in(folder):
    return [path.name for path in folder.iterdir()]


def png(array, mode="L", **options):
    out = io.BytesIO()
    Image.fromarray(np.asarray(array, np.uint8)).convert(mode).save(out, "PNG", **options)
    return out.getvalue()


def zipped(path, files, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return path


@settings(max_examples=60)
@given(st.dictionaries(IDS, MASKS, min_size=1, max_size=3))
def test_ids_and_masks_come_back_exactly(tmp_path_factory, masks):
    path = tmp_path_factory.getbasetemp() / "masks.zip"
    feedback = Feedback.of(RegionMask(name, mask) for name, mask in masks.items())
    assert export_png(feedback, path) == len(masks)
    assert {r.image_id: r for r in import_png(path)} == feedback.masks


@pytest.mark.parametrize("ending", ["", ".zip"])
def test_hard_names_stay_in_the_folder_and_come_back(tmp_path, ending):
    mask = np.array([[-1, 0, 1]])
    feedback = Feedback.of([RegionMask(name, mask) for name in HARD_IDS])
    path = tmp_path / "here" / f"masks{ending}"
    path.parent.mkdir()
    assert export_png(feedback, path) == len(HARD_IDS)
    assert {r.image_id: r for r in import_png(path)} == feedback.masks
    assert names_in(tmp_path) == ["here"]
    assert names_in(path.parent) == [path.name]
    if not ending:
        names = names_in(path)
        assert len(names) == len(HARD_IDS)
        assert not [n for n in names if n.startswith((".", "con", "COM1", "nul"))]


def test_other_tools_see_labels_and_colours(tmp_path):
    export_png(Feedback.of([RegionMask("7", [[-1, 0, 1, 1]])]), tmp_path / "masks")
    with Image.open(tmp_path / "masks" / "7.png") as image:
        assert image.mode == "P"
        assert np.asarray(image).tolist() == [[2, 0, 1, 1]]
        assert len(np.unique(np.asarray(image.convert("RGB"))[0], axis=0)) == 3


def test_only_the_latest_mask_is_written(tmp_path):
    old, new = RegionMask("7", [[1]]), RegionMask("7", [[-1]])
    export_png(Feedback.of([old, Verdict("8", "accept"), new]), tmp_path / "masks.zip")
    assert import_png(tmp_path / "masks.zip", annotator="ada") == [
        RegionMask("7", [[-1]], annotator="ada")
    ]


def test_masks_of_other_tools(tmp_path):
    (tmp_path / "cat.png").write_bytes(png([[0, 255]]))
    (tmp_path / "dog.PNG").write_bytes(png([[0, 255]], "1"))
    (tmp_path / "notes.txt").write_text("no mask")
    (tmp_path / "._cat.png").write_text("no mask either")
    ids = {"photos/cat.jpg": (1, 2), "photos/dog.jpg": (1, 2), "bird": (9, 9)}
    masks = import_png(tmp_path, ids=ids)
    assert masks == [RegionMask(f"photos/{n}.jpg", [[0, 1]]) for n in ("cat", "dog")]
    (tmp_path / "dog.PNG").unlink()
    assert import_png(tmp_path, values={0: -1, 255: 0}) == [RegionMask("cat", [[-1, 0]])]


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    feedback = Feedback.of([RegionMask("7", [[1]]), RegionMask("x" * 300, [[1]])])
    with pytest.raises(ExchangeError, match="too long"):
        export_png(feedback, tmp_path / "masks")
    assert names_in(tmp_path) == []
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "kept").write_text("")
    with pytest.raises(ExchangeError, match="not an empty folder"):
        export_png(Feedback.of([RegionMask("7", [[1]])]), tmp_path / "masks")
    assert names_in(tmp_path / "masks") == ["kept"]


GOOD = png([[0, 255]])


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(10_000_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


BAD_PICTURES = [
    (b"", "not a readable PNG"),
    (b"GIF89a", "not a readable PNG"),
    (GOOD[:-20], "not a readable PNG"),
    (GOOD[:-16] + bytes(4) + GOOD[-12:], "not a readable PNG"),
    (GOOD.replace(GOOD[-24:-16], bytes(8)), "not a readable PNG"),
    (GOOD.replace(b"IDAT", b"IDAX"), "not a readable PNG"),
    (huge(2**16, 2**15), "pixels; scale|not a readable PNG"),
    (huge(9000, 9000), "pixels; scale"),
    (png(np.zeros((2, 2, 3)), "RGB"), "mode RGB"),
    (png([[0, 17]]), r"pixel 17 is none of \[0, 1, 2, 255\]"),
    (png([[0], [255]]), "mask is 2 × 1, the picture of 'bad' is 1 × 2"),
]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("content", "words"), BAD_PICTURES)
def test_bad_pictures_are_named(tmp_path, content, words):
    path = zipped(tmp_path / "a.zip", [("a.png", GOOD), ("bad.png", content)])
    with pytest.raises(ExchangeError, match=f"entry 'bad.png': .*({words})"):
        import_png(path, ids={"a": (1, 2), "bad": (1, 2)})


def test_text_bombs_in_a_picture_are_refused(tmp_path):
    bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000)))
    (tmp_path / "bad.png").write_bytes(GOOD[:33] + bomb + GOOD[33:])
    with pytest.raises(ExchangeError, match=r"entry 'bad\.png'"):
        import_png(tmp_path)


@pytest.mark.parametrize(
    "name", ["../bad.png", "a/../../bad.png", "/bad.png", "\\bad.png", "..\\bad.png", "C:\\bad.png"]
)
def test_names_that_leave_the_zip_are_refused(tmp_path, name):
    path = zipped(tmp_path / "a.zip", [("a.png", GOOD), (name, GOOD)])
    with pytest.raises(ExchangeError, match=r"bad\.png': the name leads out of the zip"):
        import_png(path)


def test_links_in_a_zip_are_refused(tmp_path):
    link = zipfile.ZipInfo("bad.png")
    link.external_attr = 0o120777 << 16
    with pytest.raises(ExchangeError, match=r"entry 'bad\.png': it is a link"):
        import_png(zipped(tmp_path / "a.zip", [(link, b"/etc/passwd")]))


def test_zip_bombs_are_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("xfeedback_widgets.feedback.formats.png.MAX_BYTES", 10**6)
    deflated = {"compression": zipfile.ZIP_DEFLATED}
    path = zipped(tmp_path / "a.zip", [("a.png", bytes(2 * 10**6))], **deflated)
    with pytest.raises(ExchangeError, match="unpacks to more than"):
        import_png(path)
    content = path.read_bytes().replace(struct.pack("<I", 2 * 10**6), struct.pack("<I", 1000))
    path.write_bytes(content)  # the zip lies about the size
    with pytest.raises(ExchangeError, match=r"entry 'a\.png'"):
        import_png(path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: data[:-30], "not a sound zip"),
        (lambda data: b"", "not a sound zip"),
        (lambda data: GOOD, "not a sound zip"),
        (lambda data: data.replace(GOOD[-40:], bytes(40)), "entry 'a.png': cannot be unpacked"),
        (lambda data: data.replace(b"a.png", b"\xff.png"), "entry|not a sound zip"),
    ],
)
def test_broken_zips_are_refused(tmp_path, spoil, words):
    path = zipped(tmp_path / "a.zip", [("a.png", GOOD), ("ä.png", GOOD)])
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ExchangeError, match=words):
        import_png(path, ids=["a", "ä"])


@pytest.mark.parametrize(
    ("names", "ids", "words"),
    [
        (["a.png", "x/a.png"], None, "two masks of image 'a'"),
        (["a.png", "%61.png"], None, "two masks of image 'a'"),
        (["a.png", "b.png"], ["a"], "entry 'b.png': there is no image 'b'"),
        (["a.png"], ["x/a.jpg", "y/a.jpg"], "'a' may mean 'x/a.jpg' or 'y/a.jpg'"),
        (["%ff.png"], None, "entry '%ff.png': the name is not"),
        ([".png"], None, "there is no PNG"),
        (["a.txt"], None, "there is no PNG"),
        ([], None, "there is no PNG"),
    ],
)
def test_wrong_images_are_named(tmp_path, names, ids, words):
    with pytest.raises(ExchangeError, match=words):
        import_png(zipped(tmp_path / "a.zip", [(n, GOOD) for n in names]), ids=ids)
