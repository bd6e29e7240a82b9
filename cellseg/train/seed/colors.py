"""Colours in a seed's file: names of colours, and OpenCV's names of colour spaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cellseg.train.seed.ini import IniFile

__all__ = ["color_space", "named_color", "spread_color"]

_COLORS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
    "pink": (255, 192, 203),
    "orange": (255, 165, 0),
    "purple": (128, 0, 128),
    "gray": (128, 128, 128),
}
_CONVERTERS = {
    "COLOR_BGR2RGB": "bgr",
    "COLOR_RGB2BGR": "bgr",
    "COLOR_BGR2XYZ": "xyz",
    "COLOR_RGB2XYZ": "xyz",
    "COLOR_BGR2GRAY": "gray",
    "COLOR_RGB2GRAY": "gray",
    "COLOR_BGR2YCRCB": "ycrcb",
    "COLOR_RGB2YCRCB": "ycrcb",
    "COLOR_BGR2YUV": "yuv",
    "COLOR_RGB2YUV": "yuv",
    "COLOR_BGR2HSV": "hsv",
    "COLOR_RGB2HSV": "hsv",
    "COLOR_BGR2LAB": "lab",
    "COLOR_RGB2LAB": "lab",
}


def named_color(file: IniFile, key: str, default: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the colour that ``[segmentation]`` names or spells as RGB, 0..255.

    Raises
    ------
    RecipeError
        If it is neither.
    """
    value = file.get("segmentation", key, default)
    if isinstance(value, str) and value.lower() in _COLORS:
        return _COLORS[value.lower()]
    if isinstance(value, list | tuple) and len(value) == 3:
        red, green, blue = (int(part) for part in value)
        return red, green, blue
    raise file.wrong("segmentation", key, f"one of {', '.join(_COLORS)} or (r, g, b)", value)


def color_space(file: IniFile) -> str:
    """Return the colour space that the network works in, as ``input.color`` names it.

    Raises
    ------
    RecipeError
        If OpenCV's conversion is one that networks cannot hold.
    """
    converter = str(file.get("image", "color_converter", "")).removeprefix("cv2.").upper()
    if converter and converter != "NONE":
        if converter not in _CONVERTERS:
            known = ", ".join(f"cv2.{name}" for name in _CONVERTERS)
            raise file.wrong("image", "color_converter", f"one of {known}", converter)
        return _CONVERTERS[converter]
    kind = str(file.get("dataset", "datasetclass", file.get("dataset", "class_name", "")))
    if "grayscale" in kind.lower():
        return "gray"
    return "bgr" if str(file.get("dataset", "color_order", "rgb")).lower() == "bgr" else "rgb"


def spread_color(index: int) -> tuple[int, int, int]:
    """Choose a colour for a class without one: black, then colours far from each other."""
    colors = [color for name, color in _COLORS.items() if name not in ("black", "white")]
    return (0, 0, 0) if index == 0 else colors[(index - 1) % len(colors)]
