"""The floor under a variant: what it keeps of fp32, or no bundle is written."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from cellseg.errors import ExportError
from cellseg.export.judging.sqnr_report import report_path

if TYPE_CHECKING:
    from cellseg.export.judging.int8 import Int8Choice
    from cellseg.export.options import ExportOptions
    from cellseg.runtime.bundles.bundle import Variant

__all__ = ["check_floor"]

_LOG = logging.getLogger(__name__)


def check_floor(options: ExportOptions, variant: Variant, choice: Int8Choice | None) -> None:
    """Refuse a variant that keeps too little of fp32; warn where only the default floor says so.

    Parameters
    ----------
    options : ExportOptions
        The floor.
    variant : Variant
        With what was measured of it. Where that is nothing, labelled images that chose it count.
    choice : Int8Choice or None
        How an int8 file was chosen.

    Raises
    ------
    ExportError
        Naming what was kept, and the report.
    """
    kept = variant.retained
    if kept is None and choice is not None and options.select:
        kept = choice.kept
    if variant.precision == "fp32" or kept is None or kept >= options.floor:
        return
    if variant.agreement and not options.is_floor_asked:
        _LOG.warning(
            "%s agrees with fp32 to %.4f only: --precision auto asks for %.4g and leaves it out. "
            "--min-quality says what must hold; labelled images (--test) may tell that nothing is "
            "lost", variant.file, kept, options.floor,
        )  # fmt: skip
        return
    of, advice = f"keep {options.floor:.4g} of the fp32 quality", ""
    if variant.agreement:
        of = f"agree with fp32 to {options.floor:.4g} on tiles held out"
        advice = " Agreement is stricter than quality: with labelled images (--test) it may hold."
    raise ExportError(
        f"{variant.precision} must {of}. Received: {kept:.4f} by {_how(choice)}.",
        hint=f"See {report_path(options.output)}. Give more, and more varied, --representative "
        f"images, or lower --min-quality.{advice}",
    )


def _how(choice: Int8Choice | None) -> str:
    if choice is None:
        return "rounding to float16"
    return (
        f"{choice.scheme}, ranges {choice.method!r}, {len(choice.given_back)} layers given back to "
        f"float of {choice.tried} tried (half of all at most); scores {choice.scores}"
    )
