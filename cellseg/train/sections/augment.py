"""``[augment]``: random changes of a crop."""

from __future__ import annotations

from pydantic import Field

from cellseg.train.sections.base import Chance, Section

__all__ = ["AugmentRecipe"]


class AugmentRecipe(Section):
    """Random changes of a training crop, new ones each time; image and mask take the same warp.

    Each pair is a range, each ``_p`` a probability, 0..1.
    """

    enabled: bool = Field(True, description="false: crops are taken as they are")
    scale: tuple[float, float] = Field((0.7, 1.4), description="zoom, log-uniform")
    rotate: bool = Field(True, description="any angle and mirrored")
    hflip_p: Chance = Field(0.0, description="mirrored left to right")
    vflip_p: Chance = Field(0.0, description="mirrored top to bottom")
    angle_p: Chance = Field(0.0, description="turned by one of angles_deg")
    angles_deg: tuple[float, ...] = Field((90, 180, 270), description="angles, degrees")
    shrink_p: Chance = Field(0.0, description="made smaller by a factor of shrink")
    shrink: tuple[float, float] = Field((0.8, 0.8), description="factor, uniform")
    shear_p: Chance = Field(0.0, description="sheared along one axis")
    shear: float = Field(0.1, ge=0, le=1, description="largest shear, px a px, either way")
    elastic_p: Chance = Field(0.0, description="elastic deformation (Simard)")
    elastic_px: float = Field(4.0, ge=0, description="its standard displacement, px")
    elastic_sigma_px: float = Field(8.0, gt=0, description="smoothness of it, sigma, px")
    ripple_p: Chance = Field(0.0, description="distortion by the slope of a smooth random relief")
    ripple: float = Field(0.02, ge=0, le=0.5, description="largest displacement, part of the side")
    ripple_sigma_px: float = Field(40.0, gt=0, description="smoothness of the relief, sigma, px")
    grid_p: Chance = Field(0.0, description="grid distortion: the nodes of a grid are moved")
    grid_cells: int = Field(5, ge=1, le=64, description="cells of that grid along a side")
    grid: float = Field(0.3, ge=0, le=0.5, description="largest move of a node, part of a cell")
    barrel_p: Chance = Field(0.0, description="barrel distortion about each of lens_centers")
    pincushion_p: Chance = Field(0.0, description="pincushion distortion about them")
    lens_radius: float = Field(0.3, gt=0, le=2, description="its radius, part of the width")
    lens_amount: float = Field(
        0.3,
        ge=0,
        le=2,
        description="its exponent: source = centre + "
        "delta * sin(pi d / 2R) ** amount, negative for pincushion",
    )
    lens_centers: tuple[tuple[float, float], ...] = Field(
        ((0.5, 0.5),), description="centres (x, y), parts of width and height"
    )
    gamma: tuple[float, float] = Field((0.75, 1.35), description="gamma, log-uniform")
    contrast: tuple[float, float] = Field(
        (0.65, 1.1), description="width of the new range, placed at random within or around 0..1"
    )
    colour: float = Field(0.08, ge=0, description="gain per colour channel, +-")
    brightness_p: Chance = Field(0.0, description="brightened: alpha * value + beta")
    brightness_alpha: float = Field(1.2, gt=0, description="largest gain of that; 1 is the least")
    brightness_beta: float = Field(10.0, ge=0, description="largest offset of that, grey values")
    hed_p: Chance = Field(0.0, description="stains of a bright-field image made stronger or weaker")
    hed: float = Field(0.15, ge=0, le=1, description="largest change of each stain, +-, relative")
    hsv_p: Chance = Field(0.0, description="hue, saturation and value changed")
    hue_deg: float = Field(10.0, ge=0, le=180, description="largest turn of the hue, +-, degrees")
    saturation: float = Field(0.2, ge=0, le=1, description="largest change of it, +-, relative")
    value: float = Field(0.1, ge=0, le=1, description="largest change of HSV's value, +-, relative")
    lab_p: Chance = Field(0.0, description="lightness and tint shifted (CIE L*a*b*)")
    lab_light: float = Field(8.0, ge=0, le=100, description="largest shift of L* (0..100), +-")
    lab_color: float = Field(6.0, ge=0, le=127, description="largest shift of a* and b*, +-")
    sharpen_p: Chance = Field(0.0, description="sharpened")
    sharpen: float = Field(1.0, ge=0, le=10, description="its largest strength k")
    paste_p: Chance = Field(
        0.0, description="objects of another image pasted in where none are (classes)"
    )
    restain_p: Chance = Field(0.6, description="new stains on a bright-field crop (instances)")
    dim_p: Chance = Field(
        0.5, description="each nucleus of a dark-ground crop another brightness (instances)"
    )
    grey_p: Chance = Field(0.1, description="colour image to grey")
    invert_p: Chance = Field(0.1, description="inverted contrast")
    blur_p: Chance = Field(0.25, description="Gaussian blur")
    blur_sigma_px: tuple[float, float] = Field((0.4, 1.6), description="its sigma, px")
    noise_p: Chance = Field(0.2, description="Gaussian noise")
    noise_sigma: float = Field(0.03, ge=0, description="its largest sigma, of full range")
