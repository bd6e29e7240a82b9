"""How a seed changes its training crops, as ``[augment]`` of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellseg.train.seed.ini import IniFile

__all__ = ["AUGMENT_OFF", "augment_section"]

Tree = dict[str, Any]

AUGMENT_OFF: Tree = {
    "scale": (1.0, 1.0),
    "rotate": False,
    "gamma": (1.0, 1.0),
    "contrast": (1.0, 1.0),
    "colour": 0.0,
    "restain_p": 0.0,
    "dim_p": 0.0,
    "grey_p": 0.0,
    "invert_p": 0.0,
    "blur_p": 0.0,
    "noise_p": 0.0,
}
"""Values of ``[augment]`` that leave a crop as it is."""

# The displacement that alpha 1300, sigma 8 reaches in the seeds, whose filter smooths over the
# colour axis too; it falls with the root of the smoothed volume.
_ELASTIC_PX, _ELASTIC_ALPHA, _ELASTIC_SIGMA = 2.3, 1300.0, 8.0


def augment_section(file: IniFile, enabled: bool) -> Tree:
    """Return ``[augment]`` of a recipe; what the seeds do not do is off."""
    if not enabled:
        return {"enabled": False, **AUGMENT_OFF}
    found = {"enabled": True, **AUGMENT_OFF}
    for key, chance in (("hflip", 0.5), ("vflip", 0.5)):
        found[f"{key}_p"] = chance if file.flag("augmentor", key, True) else 0.0
    if file.flag("augmentor", "rotation", True):
        found["angle_p"] = 0.5
        angles = file.values("augmentor", "angles", (90, 180, 270))
        found["angles_deg"] = tuple(float(angle) for angle in angles)
    if shrinks := file.values("augmentor", "shrinks", (0.8,)):
        found |= {"shrink_p": 0.25, "shrink": (float(min(shrinks)), float(max(shrinks)))}
    if shears := file.values("augmentor", "shears", ()):
        found |= {"shear_p": 0.25, "shear": float(max(shears))}
    return found | _warps(file) | _tones(file)


def _warps(file: IniFile) -> Tree:
    found: Tree = {}
    if file.flag("augmentor", "deformation"):
        sigma = float(file.values("deformation", "sigmoids", (_ELASTIC_SIGMA,))[0])
        alpha = file.number("deformation", "alpha", _ELASTIC_ALPHA)
        pixels = _ELASTIC_PX * alpha / _ELASTIC_ALPHA * (_ELASTIC_SIGMA / sigma) ** 1.5
        found |= {"elastic_p": 0.25, "elastic_px": round(pixels, 3), "elastic_sigma_px": sigma}
    if file.flag("augmentor", "distortion"):
        sizes = file.values("distortion", "distortions", (0.02,))
        sigma = float(file.number("distortion", "gaussian_filter_rsigma", 40))
        found |= {"ripple_p": 0.25, "ripple": float(max(sizes)), "ripple_sigma_px": sigma}
    for ours, theirs in (("pincushion", "pincdistortion"), ("barrel", "barrdistortion")):
        if not file.flag("augmentor", theirs):
            continue
        found |= {
            f"{ours}_p": 0.25,
            "lens_radius": float(file.number(theirs, "radius", 0.5)),
            "lens_amount": abs(float(file.number(theirs, "amount", 0.5))),
            "lens_centers": tuple(file.values(theirs, "centers", ((0.5, 0.5),))),
        }
    return found


def _tones(file: IniFile) -> Tree:
    found: Tree = {}
    if file.flag("augmentor", "sharpening"):
        found |= {"sharpen_p": 0.25, "sharpen": float(file.number("sharpening", "k", 1.0))}
    if file.flag("augmentor", "brightening"):
        alpha = float(file.number("brightening", "alpha", 1.2))
        beta = float(file.number("brightening", "beta", 10))
        found |= {"brightness_p": 0.25, "brightness_alpha": alpha, "brightness_beta": beta}
    return found
