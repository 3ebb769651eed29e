"""Asking people about single units: the neuron widget and its parts.

`widget.py` joins the parts, as `review.py` does for images. `collector.py` gets the patches, the order
and the weights from the session, `patches.py` reads pictures, `preview.py` measures what pruning would
do: each on a thread of its own. `desk.py` knows which unit is current, `answering.py` writes answers
down; `single.py`, `grid.py` and `controls.py` lay things out, and `painter.py` alone writes to them.
"""

from xfeedback_widgets.widgets.neurons.widget import NeuronWidget

__all__ = ["NeuronWidget"]
