"""What people said: records, the durable journal, merged votes, and exchange formats.

:mod:`.records` and :mod:`.strokes` define the records, :mod:`.packing` keeps their arrays small,
:mod:`.journal` keeps them on disk, :mod:`.votes` merges them,
:mod:`.exchange` writes and reads the formats other tools use, :mod:`.salvage` reads damaged files.
Nothing here knows of models, tensors or widgets.
"""

from .exchange import (
    ExchangeError,
    export_crayon,
    export_crayon_units,
    export_records,
    import_crayon,
    import_crayon_units,
    import_records,
)
from .journal import Event, Journal, JournalError
from .records import ANSWERS, Answer, Record, RegionMask, UnitVerdict, Verdict, from_dict
from .strokes import TOOLS, Stroke, Tool
from .votes import Agreement, ContentMismatchError, Feedback, check_content, majority

__all__ = [
    "ANSWERS",
    "TOOLS",
    "Agreement",
    "Answer",
    "ContentMismatchError",
    "Event",
    "ExchangeError",
    "Feedback",
    "Journal",
    "JournalError",
    "Record",
    "RegionMask",
    "Stroke",
    "Tool",
    "UnitVerdict",
    "Verdict",
    "check_content",
    "export_crayon",
    "export_crayon_units",
    "export_records",
    "from_dict",
    "import_crayon",
    "import_crayon_units",
    "import_records",
    "majority",
]
