"""The demonstration end to end, shortened: the real widget's buttons, the table, the page."""

from __future__ import annotations

import base64
import dataclasses
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from xfeedback_widgets import demo
from xfeedback_widgets.data import ImageSet


class _Page(HTMLParser):
    """Collects images and text; closing a tag that was never opened, or leaving one open, is an error."""

    VOID = ("meta", "img", "!doctype")
    IMPLIED = ("html", "tr", "td", "th")  # HTML lets these stand without an end tag

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.images: list[dict[str, str]] = []
        self.text: dict[str, list[str]] = {}

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.text.setdefault(self.open[-1], []).append(data)


@pytest.fixture
def short(monkeypatch):
    """The same problem with less training, and class names that would be markup if not escaped."""
    whole = demo.decoy_problem
    learn = demo.learn

    def brief(model, data, *, epochs, seed=0):
        learn(model, data, epochs=3, seed=seed)

    def problem(seed=0):
        made = whole(seed)
        test = made.test
        renamed = ImageSet(
            [test[i] for i in range(60)],
            class_names=[f"<b>{name}</b>" for name in test.class_names],
            groups=test.groups[:60],
            masks=[test.mask(i) for i in range(60)],
        )
        settings = made.settings | {"epochs": 1, "steps_per_epoch": 10}
        return dataclasses.replace(made, settings=settings, test=renamed)

    monkeypatch.setattr(demo, "learn", brief)
    monkeypatch.setattr(demo, "decoy_problem", problem)


@pytest.mark.usefixtures("short")
def test_the_demonstration_prints_its_controls_and_writes_a_page(tmp_path, capsys):
    path = tmp_path / "new folder" / "demo.html"
    demo.run(path, answers=20)
    lines = capsys.readouterr().out.splitlines()
    said = next(line for line in lines if "answers given by pressing" in line)
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (accept|reject|unsure)", said)}
    assert sum(counts.values()) == 20
    start = next(i for i, line in enumerate(lines) if line.startswith("decorrelated test set"))
    table = {line[:28].strip(): line[28:].split() for line in lines[start + 1 : start + 5]}
    assert list(table) == [
        "before",
        "CRAYON-Attention",
        "control: plain fine-tuning",
        "control: random answers",
    ]
    assert all(len(row) == 3 and all(0 <= float(v) <= 1 for v in row) for row in table.values())
    assert table["before"] != table["CRAYON-Attention"]
    assert any(line.startswith("20 answers, ") for line in lines)
    assert lines[-1] == "Do it by hand: make lab   (or: jupyter lab notebooks/01_quickstart.ipynb)"

    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    assert set(page.open) <= set(page.IMPLIED)
    assert len(page.images) == 24
    assert {image["alt"] for image in page.images} == {"saliency map before", "saliency map after"}
    for image in page.images:
        kind, _, content = image["src"].partition(",")
        assert kind == "data:image/png;base64"
        png = tmp_path / "map.png"
        png.write_bytes(base64.b64decode(content))
        with Image.open(png) as picture:
            picture.verify()
    assert "b" not in page.text  # the names of the classes are text, not markup
    assert all(caption.startswith("<b>") for caption in page.text["figcaption"])
    for row in table.values():
        assert all(value in page.text["td"] for value in row)
