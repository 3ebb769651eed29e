"""What goes wrong in real notebooks: reloads, second tabs, busy kernels, narrow windows, odd data."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser


def test_reload_in_the_middle_and_a_second_tab(scene, setup_cell, open_cell):
    lab = scene([setup_cell, open_cell])
    lab.start()
    lab.wait_until("widget.wait()")
    lab.button("Reject (r)").click()
    lab.wait_until("len(session.feedback) == 1")
    # the saved notebook holds the output; the page comes back without running anything
    lab.page.keyboard.press("Control+s")
    lab.page.wait_for_function("!window.jupyterapp.shell.currentWidget.context.model.dirty")
    lab.page.reload()
    lab.wait_painted()
    lab.shot("after-reload")
    lab.button("Accept (a)").click()
    lab.wait_until("len(session.feedback) == 2")
    lab.wait_text("Saved:")

    second = lab.context.new_page()
    lab.open(second)
    lab.wait_painted(second)
    second.locator(".xf-root").get_by_role("button", name="Accept (a)").click()
    lab.wait_until("len(session.feedback) == 3")
    second.get_by_text("3 of 240").first.wait_for()
    lab.shot("second-tab", second)
    lab.wait_text("3 of 240")
    lab.wait_painted()
    assert not lab.problems


def test_screen_goes_on_while_a_cell_is_busy(scene, setup_cell, open_cell):
    busy = "import time\nuntil = time.time() + 9\nwhile time.time() < until:\n    sum(range(20000))"
    lab = scene([setup_cell, open_cell, busy])
    lab.open()
    lab.execute_cells(0, 2)
    lab.wait_painted()
    lab.evaluate("session.train(epochs=40, batch_size=16)")
    lab.page.wait_for_timeout(300)
    lab.execute_cells(2)
    lab.page.wait_for_timeout(700)
    seen = lab.watch(6000)
    lab.shot("busy-cell")
    assert len(set(seen["texts"])) >= 4, "the training panel stood still"
    assert len(set(seen["maps"])) >= 2, "the map stood still"
    lab.evaluate("session.stop()", timeout=30)


def test_narrow_window(scene, setup_cell, open_cell):
    lab = scene([setup_cell, open_cell], width=480)
    lab.start()
    lab.collapse_left()
    lab.page.wait_for_timeout(600)
    lab.wait_painted()
    lab.shot("narrow")
    lab.button("Grid (g)").click()
    lab.wait_painted()
    lab.page.wait_for_timeout(400)
    lab.shot("narrow-grid")
    assert lab.cut("button, select, canvas, .xf-facts") == []


def test_class_names_with_html_and_emoji(scene, setup_cell, open_cell, hostile_cell):
    hostile = """
data = ImageSet(list(zip(images, labels.tolist())),
                ids=[f"<i>{i}</i>/</script>📁.png" for i in range(count)], class_names=names)
"""
    opened = open_cell.replace('annotator="me"', 'annotator="<b>me</b> 🙂"')
    lab = scene([setup_cell + hostile_cell + hostile, opened])
    lab.start()
    lab.wait_until("widget.wait()")
    lab.button("Reject (r)").click()
    lab.wait_until("len(session.feedback) == 1")
    lab.button("Back (b)").click()
    lab.wait_text("<b>me</b> 🙂")
    for image in ("<i>0</i>", "<i>1</i>", "<i>2</i>", "<i>6</i>"):
        lab.execute(f"widget.go_to('{image}/</script>📁.png')")
        lab.wait_text(image)
    lab.shot("hostile-names")
    lab.button("Grid (g)").click()
    lab.wait_painted()
    lab.shot("hostile-names-grid")
    assert lab.page.evaluate("window.hacked") is None
    assert lab.page.locator(".xf-root img, .xf-root script, .xf-root td b").count() == 0


def test_exception_in_a_users_dataset_is_shown(scene, setup_cell, open_cell):
    broken = """
class Broken(torch.utils.data.Dataset):
    targets = labels.tolist()
    def __len__(self):
        return count
    def __getitem__(self, index):
        if index == 1 and fail:
            raise OSError("disk <on> fire")
        return images[index], int(labels[index])

fail = False
data = ImageSet(Broken(), ids=[f"digit-{i}" for i in range(count)], class_names=names)
data.content_hash(0)
fail = True
"""
    opened = open_cell.replace("ReviewWidget(session)", 'ReviewWidget(session, order="dataset")')
    lab = scene([setup_cell + broken, opened])
    lab.start()
    lab.wait_until("widget.wait()")
    lab.button("Accept (a)").click()
    lab.page.locator(".xf-facts .xf-error", has_text="disk <on> fire").wait_for()
    lab.page.locator(".xf-root summary").first.click()
    lab.wait_text("Traceback")
    lab.shot("dataset-error")
    lab.button("Accept (a)").click()
    lab.wait_text("The map of this image is not there yet.")
    lab.button("Skip (s)").click()
    lab.wait_until("widget.current == 'digit-2'")
    lab.wait_painted()
    lab.button("Accept (a)").click()
    lab.wait_until("len(session.feedback) == 2")
