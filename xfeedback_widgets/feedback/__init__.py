"""What people said: records, the durable journal, merged votes, and exchange formats.

:mod:`.records`, :mod:`.strokes` and :mod:`.byproducts` define the records, :mod:`.packing` keeps their
arrays small, :mod:`.journal` keeps them on disk, :mod:`.votes` merges them, :mod:`.reasonability`
counts them beside the predictions,
:mod:`.exchange` and :mod:`.byproduct_files` write and read the formats other tools use,
:mod:`.salvage` reads damaged files.
Nothing here knows of models, tensors or widgets.
"""

from .byproduct_files import (
    export_ab,
    export_imagenet_xml,
    import_bubbleview,
    import_coco_ab,
    import_imagenet_ab,
)
from .byproducts import Action, Category, Click, CocoAB, Hover, ImageNetAB, Point, hashed_id
from .exchange import (
    ExchangeError,
    anonymous,
    export_crayon,
    export_crayon_units,
    export_records,
    import_crayon,
    import_crayon_units,
    import_records,
)
from .formats.coco import export_coco, import_coco
from .formats.gradia import export_gradia_labels, import_gradia_labels
from .formats.label_studio import (
    LABEL_STUDIO_CONFIG,
    export_label_studio,
    import_label_studio,
)
from .formats.png import export_png, import_png
from .journal import Event, Journal, JournalError
from .reasonability import CELLS, Cell, ReasonabilityMatrix, category
from .records import (
    ANSWERS,
    Answer,
    Byproduct,
    Record,
    RegionMask,
    UnitVerdict,
    Verdict,
    from_dict,
)
from .strokes import TOOLS, Stroke, Tool
from .votes import (
    Agreement,
    ContentMismatchError,
    Feedback,
    check_content,
    majority,
    points_of,
    repointed,
)

__all__ = [
    "ANSWERS",
    "CELLS",
    "LABEL_STUDIO_CONFIG",
    "TOOLS",
    "Action",
    "Agreement",
    "Answer",
    "Byproduct",
    "Category",
    "Cell",
    "Click",
    "CocoAB",
    "ContentMismatchError",
    "Event",
    "ExchangeError",
    "Feedback",
    "Hover",
    "ImageNetAB",
    "Journal",
    "JournalError",
    "Point",
    "ReasonabilityMatrix",
    "Record",
    "RegionMask",
    "Stroke",
    "Tool",
    "UnitVerdict",
    "Verdict",
    "anonymous",
    "category",
    "check_content",
    "export_ab",
    "export_coco",
    "export_crayon",
    "export_crayon_units",
    "export_gradia_labels",
    "export_imagenet_xml",
    "export_label_studio",
    "export_png",
    "export_records",
    "from_dict",
    "hashed_id",
    "import_bubbleview",
    "import_coco",
    "import_coco_ab",
    "import_crayon",
    "import_crayon_units",
    "import_gradia_labels",
    "import_imagenet_ab",
    "import_label_studio",
    "import_png",
    "import_records",
    "majority",
    "points_of",
    "repointed",
]
