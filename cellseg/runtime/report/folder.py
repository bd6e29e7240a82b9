"""What a finished run left in its folder, and the slide it was made of, if that is still there."""

from __future__ import annotations

import json
import logging
import math
from contextlib import ExitStack
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import CellsegError, StoreError
from cellseg.runtime.cells.files import CellFile
from cellseg.runtime.shapes.roi import read_roi
from cellseg.runtime.slides.readers import open_slide
from cellseg.runtime.store.file_labels import FileLabels
from cellseg.runtime.view.working import WorkingView

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from numpy.typing import NDArray

    from cellseg.runtime.shapes.limit import Limit
    from cellseg.runtime.store.labels import LabelSource

__all__ = ["RunFolder", "find_runs"]

_LOG = logging.getLogger(__name__)
_SCHEMA = "cellseg.run/1"
_RUN_JSON = "run.json"
_SAID = {
    "input": ("path", "width_px", "height_px", "mpp"),
    "model": ("name", "version", "sha256"),
    "normalize": ("low", "high"),
    "engine": ("name", "precision", "device", "threads"),
    "plan": ("width_px", "height_px", "mpp", "tile_hw", "halo_px", "tiles_total", "tiles_skipped"),
    "stages_s": (),
    "classes": (),
    "outputs": (),
    "provenance": ("cellseg", "versions", "command", "machine"),
}
_RUN_AGAIN = "It was changed, or another version wrote it: run infer --restart on the slide."
_MEASURED = ("wall_s", "throughput_mpx_s")
_PLAIN_COLOURS = np.array(
    [(0, 0, 0), (255, 200, 0), (0, 170, 255), (235, 70, 90), (60, 190, 100), (190, 110, 230)],
    np.uint8,
)


def find_runs(places: list[Path]) -> list[Path]:
    """Return the folders of runs: those within the places; a place that holds none is its own."""
    found: list[Path] = []
    for place in places:
        inner = [] if (place / _RUN_JSON).is_file() else place.glob(f"*/{_RUN_JSON}")
        found += sorted(path.parent for path in inner) or [place]
    return list(dict.fromkeys(found))


class RunFolder:
    """The folder of a finished run, opened to be looked at; a context manager.

    Parameters
    ----------
    path : Path
        Holds ``run.json``.

    Attributes
    ----------
    path : Path
        As given.
    run : dict
        Content of ``run.json``.

    Raises
    ------
    StoreError
        If there is no ``run.json``, or none of ours.
    """

    def __init__(self, path: Path) -> None:
        if not (path / _RUN_JSON).is_file():
            raise StoreError(
                f"A report is made of a folder with run.json in it. Received: {path}.",
                hint="Name what infer wrote: its -o FOLDER, or FOLDER/<name of input>.",
            )
        self.path = path
        self.run = _read_run(path / _RUN_JSON)
        self._open = ExitStack()
        self._told: set[str] = set()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    @property
    def title(self) -> str:
        """Name of the slide's file."""
        return Path(self.run["input"]["path"]).name

    @property
    def l0_hw(self) -> tuple[int, int]:
        """Size of the slide."""
        return int(self.run["input"]["height_px"]), int(self.run["input"]["width_px"])

    @property
    def wl_hw(self) -> tuple[int, int]:
        """Size of the working level."""
        return int(self.run["plan"]["height_px"]), int(self.run["plan"]["width_px"])

    @property
    def mpp(self) -> tuple[float, float] | None:
        """Microns per level-0 pixel, (x, y)."""
        found = self.run["input"].get("mpp_xy")
        return None if found is None else (float(found[0]), float(found[1]))

    @cached_property
    def class_names(self) -> list[str]:
        """Classes, background first."""
        return list(self.run["classes"])

    @cached_property
    def colours(self) -> dict[str, tuple[int, int, int]]:
        """RGB of each class but background, as in the class map's palette."""
        table = _PLAIN_COLOURS[np.arange(len(self.class_names)) % len(_PLAIN_COLOURS)]
        if (path := self._file("classes.ome.tif")) is not None:
            table = _palette(path, len(self.class_names), table)
        rows = [(int(r), int(g), int(b)) for r, g, b in table]
        return dict(list(zip(self.class_names, rows, strict=True))[1:])

    @property
    def palette(self) -> NDArray[np.uint8]:
        """RGB of each class, shape (n, 3)."""
        return np.array([(0, 0, 0), *self.colours.values()], np.uint8)

    @cached_property
    def cells(self) -> Mapping[str, NDArray[Any]] | None:
        """Columns of the table of cells; None where there is none, or it cannot be read here."""
        if (table := self._file("cells.parquet")) is not None:
            if find_spec("pyarrow") is not None:
                return CellFile(table)
            _LOG.warning("%s: pyarrow is missing: pip install 'cellseg[parquet]'", table)
        table = self._file("cells.csv")
        return None if table is None else CellFile(table)

    @cached_property
    def view(self) -> WorkingView | None:
        """The slide as the model saw it; None if it has gone or is another one now."""
        given, plan = self.run["input"], self.run["plan"]
        normalize = self.run["normalize"]
        try:
            slide = open_slide(self._place(given["path"]), given["mpp"], given.get("channel"))
            self._open.callback(slide.close)
            wanted = None if slide.mpp is None else plan["mpp"]
            values = normalize["low"], normalize["high"]
            view = WorkingView(slide, wanted, values, plan.get("fit_px"))
        except CellsegError as error:
            _LOG.warning("%s: pictures of the slide are left out: %s", self.path, error)
            return None
        if view.hw != self.wl_hw:
            _LOG.warning(
                "%s: pictures of the slide are left out: it is %s px at the working level, not %s",
                self.path, view.hw, self.wl_hw,
            )  # fmt: skip
            return None
        return view

    @cached_property
    def limits(self) -> tuple[Limit, ...] | None:
        """The regions that alone were run; None if their file has gone or holds others now."""
        facts = self.run.get("roi")
        if facts is None:
            return ()
        try:
            l0_per_wl = self.l0_hw[1] / self.wl_hw[1]
            roi = read_roi(self._place(facts["path"]), l0_per_wl, self.wl_hw)
        except CellsegError as error:
            _LOG.warning("%s: densities of regions are left out: %s", self.path, error)
            return None
        if not math.isclose(roi.l0_area_px, facts["area_px"], rel_tol=1e-3):
            _LOG.warning("%s: densities are left out: %s has changed", self.path, facts["path"])
            return None
        return (roi,)

    def _place(self, named: str) -> Path:
        """Return where a file lies: as it was named, from here or from a folder above this."""
        given = Path(named)
        places = (given, *(parent / given for parent in self.path.resolve().parents))
        return next((place for place in places if place.exists()), given)

    @cached_property
    def labels(self) -> LabelSource | None:
        """Number of the cell at every pixel, if that was written."""
        return self._map("labels.ome.tif")

    @cached_property
    def classes(self) -> LabelSource | None:
        """Class of every pixel, if that was written."""
        return self._map("classes.ome.tif")

    def picture(self, name: str) -> NDArray[np.uint8] | None:
        """Return a picture of the folder as RGB; None if it is not there or not readable."""
        import cv2

        path = self._file(name)
        found = None if path is None else cv2.imread(str(path), cv2.IMREAD_COLOR)
        return None if found is None else np.ascontiguousarray(found[..., ::-1])

    def _map(self, name: str) -> FileLabels | None:
        path = self._file(name)
        if path is None:
            return None
        found = FileLabels(path)
        self._open.callback(found.close)
        return found

    def _file(self, name: str) -> Path | None:
        """Path of an output that the run names and that is there, whole."""
        path, made = self.path / name, self.run["outputs"].get(name)
        if made is None or not path.is_file():
            return None
        if path.stat().st_size == made["bytes"]:
            return path
        if name not in self._told:
            self._told.add(name)
            _LOG.warning("%s has changed since the run: it is left out", path)
        return None


def _read_run(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"run.json can be read. Received: {path}: {error}.", hint=_RUN_AGAIN
        ) from error
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != _SCHEMA:
        raise StoreError(
            f"run.json says {_SCHEMA}. Received: schema={schema} in {path}.", hint=_RUN_AGAIN
        )
    lacking = _lacking(found)
    if lacking:
        raise StoreError(
            f"run.json holds what infer writes. Received: no {', '.join(lacking[:3])} in {path}.",
            hint=_RUN_AGAIN,
        )
    return dict(found)


def _lacking(run: dict[str, Any]) -> list[str]:
    """Name what a page cannot do without and a report does not say."""
    found = [name for name in _MEASURED if run.get(name) is None]
    for part, names in _SAID.items():
        inner = run.get(part)
        if isinstance(inner, dict):
            found += [f"{part}.{name}" for name in names if name not in inner]
        else:
            found.append(part)
    return found


def _palette(path: Path, count: int, otherwise: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import tifffile

    with tifffile.TiffFile(path) as tif:
        colours = getattr(tif.series[0].levels[0].keyframe, "colormap", None)
    return otherwise if colours is None else (colours.T[:count] // 257).astype(np.uint8)
