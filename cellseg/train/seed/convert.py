"""A seed's INI file as a recipe of ours: the same network, the same settings, what was off is off.

Where a seed leaves a key out, its own default counts (reference: API 1.4.3). Nothing is evaluated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cellseg.errors import RecipeError
from cellseg.train.families.seeds import seed_family
from cellseg.train.objectives import loss_name
from cellseg.train.seed.ini import IniFile, read_ini
from cellseg.train.seed.keys import KEYS, SLIPS, require_known

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["AUGMENT_OFF", "Conversion", "convert_config", "is_config"]

Tree = dict[str, Any]

SUFFIXES = (".config", ".cfg", ".conf", ".ini")

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
# The displacement that alpha 1300, sigma 8 reaches in the seeds, whose filter smooths over the
# colour axis too; it falls with the root of the smoothed volume.
_ELASTIC_PX, _ELASTIC_ALPHA, _ELASTIC_SIGMA = 2.3, 1300.0, 8.0


@dataclass(frozen=True)
class Conversion:
    """A recipe made from a seed's file."""

    tree: Tree
    """As TOML would hold it."""

    notes: tuple[str, ...]
    """Slips that were mended, and what is read differently from the seeds."""

    unused: tuple[str, ...] = ()
    """Keys that were understood and have no effect, each with the reason."""


def is_config(path: Path) -> bool:
    """Tell a seed's INI file by its suffix."""
    return path.suffix.lower() in SUFFIXES


def convert_config(path: Path) -> Conversion:
    """Read a seed's configuration file and make a recipe of it.

    Raises
    ------
    RecipeError
        If a key is unknown (the nearest one is named), a value cannot be read or is not to be had.
    """
    file = read_ini(path)
    notes, unused = list(file.notes), []
    _mend_slips(file, notes)
    for section, keys in file.sections.items():
        for key, item in keys.items():
            where = f"{path.name}, line {item.line}, [{section}]"
            require_known(section, key, item.value, where)
            row = KEYS[section, key]
            if not row.becomes:
                unused.append(f"[{section}] {key}: understood, has no effect: {row.why}")
    tree = _Converter(file, notes).tree()
    return Conversion(tree, tuple(dict.fromkeys(notes)), tuple(unused))


def _mend_slips(file: IniFile, notes: list[str]) -> None:
    for (section, wrong), (meant, right) in SLIPS.items():
        item = file.sections.get(section, {}).pop(wrong, None)
        if item is None:
            continue
        file.sections.setdefault(meant, {}).setdefault(right, item)
        notes.append(f"[{section}] {wrong} (line {item.line}) is read as [{meant}] {right}")


class _Converter:
    """Builds the recipe section by section from the values of a file."""

    def __init__(self, file: IniFile, notes: list[str]) -> None:
        self._file, self._notes = file, notes
        self._batch = int(self._number("train", "batch_size", 4))
        model_says = self._get("model", "generator", False)
        self._augments = bool(model_says) and bool(self._get("generator", "augmentation", True))

    def tree(self) -> Tree:
        tree = {
            "name": self._name(),
            "run": str(self._get("train", "model_dir", "./models")),
            "model": self._model(),
            "sources": [self._source()],
            "classes": self._classes(),
            "input": self._input(),
            "mask": self._mask(),
            "normalize": {"kind": "none"},
            "target": {"kind": "classes"},
            "loss": {"name": self._loss()},
            "augment": self._augment(),
            "fit": self._fit(),
            "watch": self._watch(),
            "infer": self._infer(),
            "bundle": {"mpp": 0.0, "license": "unknown", "class_name": "foreground"},
        }
        return {key: value for key, value in tree.items() if value not in (None, {}, [])}

    def _get(self, section: str, key: str, default: Any = None) -> Any:
        item = self._file.sections.get(section, {}).get(key)
        return default if item is None or item.value is None else item.value

    def _number(self, section: str, key: str, default: float) -> float:
        value = self._get(section, key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(section, key, "a number", value)
        return value

    def _flag(self, section: str, key: str, default: bool = False) -> bool:
        value = self._get(section, key, default)
        if not isinstance(value, bool):
            raise self._wrong(section, key, "True or False", value)
        return value

    def _list(self, section: str, key: str, default: tuple[Any, ...]) -> tuple[Any, ...]:
        value = self._get(section, key, default)
        return tuple(value) if isinstance(value, list | tuple) else (value,)

    def _wrong(self, section: str, key: str, rule: str, value: Any) -> RecipeError:
        line = self._file.sections[section][key].line
        return RecipeError(
            f"{self._file.path.name}, line {line}: [{section}] {key} must be {rule}. "
            f"Received: {value!r}."
        )

    def _name(self) -> str:
        data = str(self._get("train", "image_datapath", ""))
        parts = [p for p in re.split(r"[\\/]+", data) if p not in ("", ".", "..")]
        skipped = {"train", "images", "image", "original", "dataset"}
        named = [part for part in parts if part.lower() not in skipped]
        parent = self._file.path.resolve().parent.name
        text = named[0] if named else parent or self._file.path.stem
        return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._") or "seed"

    def _model(self) -> Tree:
        section = {
            key: item.value
            for key, item in self._file.sections.get("model", {}).items()
            if item.value is not None
        }
        family, params = seed_family(str(section.get("model", "TensorflowUNet")), section)
        if self._flag("dataset", "image_normalize"):
            params["input_range"] = "0..1"
        return {"family": family, **params}

    def _source(self) -> Tree:
        source: Tree = {"name": self._name()}
        train = self._pair("train")
        if train is None:
            path = self._usual_path()
            self._notes.append(
                f"[train] image_datapath is missing: {path}, or --data DIR, is read as train/, "
                "valid/ and test/, each with images/ and masks/"
            )
            return {**source, "path": path}
        evaluated, tested = self._pair("eval"), self._pair("test")
        if tested is None:  # the older form: [eval] names the test images
            valid, test = None, evaluated
        else:
            valid, test = evaluated, tested
        if self._flag("train", "dataset_splitter"):
            valid = None
        pairs = {"train": train, "valid": valid, "test": test}
        return source | {key: pair for key, pair in pairs.items() if pair is not None}

    def _usual_path(self) -> str:
        """Find the data where the seeds' documents put them: dataset/<name of the project>."""
        project = self._file.path.resolve().parent
        usual = f"../../../dataset/{project.name}"
        return usual if (project / usual / "train").is_dir() else "."

    def _pair(self, section: str) -> Tree | None:
        images, masks = (self._get(section, f"{kind}_datapath") for kind in ("image", "mask"))
        if images is None and masks is None:
            return None
        if images is None or masks is None:
            raise RecipeError(
                f"{self._file.path.name}: [{section}] needs image_datapath and mask_datapath. "
                f"Received: image_datapath={images!r}, mask_datapath={masks!r}."
            )
        below = str(self._get(section, "category", ""))
        paths = (re.sub(r"\\", "/", str(path)).rstrip("/") for path in (images, masks))
        image_dir, mask_dir = (f"{path}/{below}" if below else path for path in paths)
        return {"images": image_dir, "masks": mask_dir}

    def _classes(self) -> list[Tree]:
        table = self._get("mask", "rgb_map")
        if isinstance(table, dict):
            return [
                self._mapped_class(color, table[color])
                for color in sorted(table, key=lambda color: int(table[color]))
            ]
        count = int(self._number("model", "num_classes", 1))
        if count > 2:
            return [
                {"name": "background" if i == 0 else f"class{i}", "color": _spread(i)}
                for i in range(count)
            ]
        colors = [self._color("black", (0, 0, 0)), self._color("white", (255, 255, 255))]
        names = ("background", "foreground")
        return [{"name": name, "color": color} for name, color in zip(names, colors, strict=True)]

    def _mapped_class(self, color: Any, index: Any) -> Tree:
        name = "background" if index == 0 else f"class{index}"
        return {"name": name, "color": tuple(color), "mask_colors": [tuple(color)]}

    def _color(self, key: str, default: tuple[int, int, int]) -> tuple[int, int, int]:
        value = self._get("segmentation", key, default)
        if isinstance(value, str) and value.lower() in _COLORS:
            return _COLORS[value.lower()]
        if isinstance(value, list | tuple) and len(value) == 3:
            red, green, blue = (int(part) for part in value)
            return red, green, blue
        raise self._wrong("segmentation", key, f"one of {', '.join(_COLORS)} or (r, g, b)", value)

    def _input(self) -> Tree:
        size = tuple(
            int(self._number("model", f"image_{side}", 512)) for side in ("width", "height")
        )
        found: Tree = {"size_px": size, "fit": "whole", "color": self._input_color()}
        if (sharpen := float(self._number("image", "sharpening", 0))) > 0:
            found["sharpen"] = sharpen
        if (gamma := float(self._number("image", "gamma", 0))) < 0:
            raise self._wrong("image", "gamma", "0 (off) or more", gamma)
        if gamma not in (0, 1):
            found["gamma"] = gamma
        return found

    def _input_color(self) -> str:
        converter = str(self._get("image", "color_converter", "")).removeprefix("cv2.").upper()
        if converter and converter != "NONE":
            if converter not in _CONVERTERS:
                known = ", ".join(f"cv2.{name}" for name in _CONVERTERS)
                raise self._wrong("image", "color_converter", f"one of {known}", converter)
            return _CONVERTERS[converter]
        kind = str(self._get("dataset", "datasetclass", self._get("dataset", "class_name", "")))
        if "grayscale" in kind.lower():
            return "gray"
        return "bgr" if str(self._get("dataset", "color_order", "rgb")).lower() == "bgr" else "rgb"

    def _mask(self) -> Tree:
        found: Tree = {}
        if self._flag("mask", "blur"):
            found["blur_px"] = int(self._list("mask", "blur_size", (3, 3))[0])
        by_otsu = "otsu" in str(self._get("mask", "algorithm", "")).lower()
        if self._flag("mask", "binarize") and not by_otsu:
            found["threshold"] = int(self._number("mask", "threshold", 127))
        else:
            self._notes.append(
                "[mask] binarize is off: the seeds then take every value but 0 for foreground, "
                "compression noise included; here Otsu's value over all training masks decides"
            )
        return found

    def _loss(self) -> str:
        name = str(self._get("model", "loss", "binary_crossentropy"))
        return loss_name(name)

    def _fit(self) -> Tree:
        patience = int(self._number("train", "patience", 10))
        is_old = self._get("model", "model") is None
        clip = self._number("model", "clipvalue", 0.0 if is_old else 0.2)
        found: Tree = {
            "batch": self._batch,
            "epochs": int(self._number("train", "epochs", 100)),
            "steps_per_epoch": 0,
            "optimizer": str(self._get("model", "optimizer", "Adam")).lower(),
            "learning_rate": float(self._number("model", "learning_rate", 1e-4)),
            "schedule": "constant",
            "warmup_steps": 0,
            "clipnorm": 0.0,
            "clipvalue": float(clip),
            "weight_decay": 0.0,
            "ema": 0.0,
            "patience": max(0, patience),
            "workers": 2,
        }
        if self._flag("train", "learning_rate_reducer"):
            found["schedule"] = "plateau"
            found["reduce_factor"] = float(self._number("train", "reducer_factor", 0.1))
            half = max(1, patience // 2)
            found["reduce_patience"] = int(self._number("train", "reducer_patience", half))
        if self._augments:
            found["steps_per_epoch"] = int(self._number("train", "steps_per_epoch", 400))
            steps = int(self._number("train", "validation_steps", 800))
            found["valid_images"] = steps * self._batch
        return found

    def _watch(self) -> Tree:
        return {
            "plain": self._flag("train", "epoch_change_infer"),
            "tiled": self._flag("train", "epoch_change_tiledinfer"),
            "count": int(self._number("train", "num_infer_images", 1)),
            "images": self._get("infer", "images_dir"),
        }

    def _infer(self) -> Tree:
        grey = self._get("infer", "threshold", self._get("tiledinfer", "threshold", 127.5))
        found = {
            "images": self._get("infer", "images_dir"),
            "output": self._get("infer", "output_dir", "./mini_test_output"),
            "merged": self._get("infer", "merged_dir"),
            "tiled_images": self._get("tiledinfer", "images_dir"),
            "tiled_output": self._get("tiledinfer", "output_dir", "./tiled_mini_test_output"),
            "tiled_merged": self._get("tiledinfer", "merged_dir"),
            "tile_px": self._get("tiledinfer", "split_size"),
            "overlap_px": int(self._number("tiledinfer", "overlapping", 0)),
            "threshold": round(float(grey) / 255, 4),
            "colorize": self._flag("segmentation", "colorize")
            or self._flag("infer", "mask_colorize"),
        }
        return {key: value for key, value in found.items() if value is not None}

    def _augment(self) -> Tree:
        if not self._augments:
            return {"enabled": False, **AUGMENT_OFF}
        found = {"enabled": True, **AUGMENT_OFF}
        for key, chance in (("hflip", 0.5), ("vflip", 0.5)):
            found[f"{key}_p"] = chance if self._flag("augmentor", key, True) else 0.0
        if self._flag("augmentor", "rotation", True):
            found["angle_p"] = 0.5
            angles = self._list("augmentor", "angles", (90, 180, 270))
            found["angles_deg"] = tuple(float(angle) for angle in angles)
        if shrinks := self._list("augmentor", "shrinks", (0.8,)):
            found |= {"shrink_p": 0.25, "shrink": (float(min(shrinks)), float(max(shrinks)))}
        if shears := self._list("augmentor", "shears", ()):
            found |= {"shear_p": 0.25, "shear": float(max(shears))}
        return found | self._warps() | self._tones()

    def _warps(self) -> Tree:
        found: Tree = {}
        if self._flag("augmentor", "deformation"):
            sigma = float(self._list("deformation", "sigmoids", (_ELASTIC_SIGMA,))[0])
            alpha = self._number("deformation", "alpha", _ELASTIC_ALPHA)
            pixels = _ELASTIC_PX * alpha / _ELASTIC_ALPHA * (_ELASTIC_SIGMA / sigma) ** 1.5
            found |= {"elastic_p": 0.25, "elastic_px": round(pixels, 3), "elastic_sigma_px": sigma}
        if self._flag("augmentor", "distortion"):
            sizes = self._list("distortion", "distortions", (0.02,))
            sigma = float(self._number("distortion", "gaussian_filter_rsigma", 40))
            found |= {"ripple_p": 0.25, "ripple": float(max(sizes)), "ripple_sigma_px": sigma}
        for ours, theirs in (("pincushion", "pincdistortion"), ("barrel", "barrdistortion")):
            if not self._flag("augmentor", theirs):
                continue
            found |= {
                f"{ours}_p": 0.25,
                "lens_radius": float(self._number(theirs, "radius", 0.5)),
                "lens_amount": abs(float(self._number(theirs, "amount", 0.5))),
                "lens_centers": tuple(self._list(theirs, "centers", ((0.5, 0.5),))),
            }
        return found

    def _tones(self) -> Tree:
        found: Tree = {}
        if self._flag("augmentor", "sharpening"):
            found |= {"sharpen_p": 0.25, "sharpen": float(self._number("sharpening", "k", 1.0))}
        if self._flag("augmentor", "brightening"):
            alpha = float(self._number("brightening", "alpha", 1.2))
            beta = float(self._number("brightening", "beta", 10))
            found |= {"brightness_p": 0.25, "brightness_alpha": alpha, "brightness_beta": beta}
        return found


def _spread(index: int) -> tuple[int, int, int]:
    """Choose a colour for a class without one: black, then colours far from each other."""
    colors = [color for name, color in _COLORS.items() if name not in ("black", "white")]
    return (0, 0, 0) if index == 0 else colors[(index - 1) % len(colors)]
