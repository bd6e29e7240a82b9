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
from cellseg.train.seed.augment import augment_section
from cellseg.train.seed.colors import color_space, named_color, spread_color
from cellseg.train.seed.ini import IniFile, read_ini
from cellseg.train.seed.keys import KEYS, SLIPS, require_known

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Conversion", "convert_config", "is_config"]

Tree = dict[str, Any]

SUFFIXES = (".config", ".cfg", ".conf", ".ini")


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
        self._batch = int(self._file.number("train", "batch_size", 4))
        model_says = self._file.get("model", "generator", False)
        self._augments = bool(model_says) and bool(
            self._file.get("generator", "augmentation", True)
        )

    def tree(self) -> Tree:
        tree = {
            "name": self._name(),
            "run": str(self._file.get("train", "model_dir", "./models")),
            "model": self._model(),
            "sources": [self._source()],
            "classes": self._classes(),
            "input": self._input(),
            "mask": self._mask(),
            "normalize": {"kind": "none"},
            "target": {"kind": "classes"},
            "loss": {"name": self._loss()},
            "augment": augment_section(self._file, self._augments),
            "fit": self._fit(),
            "watch": self._watch(),
            "infer": self._infer(),
            "bundle": {"mpp": 0.0, "license": "unknown", "class_name": "foreground"},
        }
        return {key: value for key, value in tree.items() if value not in (None, {}, [])}

    def _name(self) -> str:
        data = str(self._file.get("train", "image_datapath", ""))
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
        if self._file.flag("dataset", "image_normalize"):
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
        if self._file.flag("train", "dataset_splitter"):
            valid = None
        pairs = {"train": train, "valid": valid, "test": test}
        return source | {key: pair for key, pair in pairs.items() if pair is not None}

    def _usual_path(self) -> str:
        """Find the data where the seeds' documents put them: dataset/<name of the project>."""
        project = self._file.path.resolve().parent
        usual = f"../../../dataset/{project.name}"
        return usual if (project / usual / "train").is_dir() else "."

    def _pair(self, section: str) -> Tree | None:
        images, masks = (self._file.get(section, f"{kind}_datapath") for kind in ("image", "mask"))
        if images is None and masks is None:
            return None
        if images is None or masks is None:
            raise RecipeError(
                f"{self._file.path.name}: [{section}] needs image_datapath and mask_datapath. "
                f"Received: image_datapath={images!r}, mask_datapath={masks!r}."
            )
        below = str(self._file.get(section, "category", ""))
        paths = (re.sub(r"\\", "/", str(path)).rstrip("/") for path in (images, masks))
        image_dir, mask_dir = (f"{path}/{below}" if below else path for path in paths)
        return {"images": image_dir, "masks": mask_dir}

    def _classes(self) -> list[Tree]:
        table = self._file.get("mask", "rgb_map")
        if isinstance(table, dict):
            return [
                self._mapped_class(color, table[color])
                for color in sorted(table, key=lambda color: int(table[color]))
            ]
        count = int(self._file.number("model", "num_classes", 1))
        if count > 2:
            return [
                {"name": "background" if i == 0 else f"class{i}", "color": spread_color(i)}
                for i in range(count)
            ]
        colors = [
            named_color(self._file, "black", (0, 0, 0)),
            named_color(self._file, "white", (255, 255, 255)),
        ]
        names = ("background", "foreground")
        return [{"name": name, "color": color} for name, color in zip(names, colors, strict=True)]

    def _mapped_class(self, color: Any, index: Any) -> Tree:
        name = "background" if index == 0 else f"class{index}"
        return {"name": name, "color": tuple(color), "mask_colors": [tuple(color)]}

    def _input(self) -> Tree:
        size = tuple(
            int(self._file.number("model", f"image_{side}", 512)) for side in ("width", "height")
        )
        found: Tree = {"size_px": size, "fit": "whole", "color": color_space(self._file)}
        if (sharpen := float(self._file.number("image", "sharpening", 0))) > 0:
            found["sharpen"] = sharpen
        if (gamma := float(self._file.number("image", "gamma", 0))) < 0:
            raise self._file.wrong("image", "gamma", "0 (off) or more", gamma)
        if gamma not in (0, 1):
            found["gamma"] = gamma
        return found

    def _mask(self) -> Tree:
        found: Tree = {}
        if self._file.flag("mask", "blur"):
            found["blur_px"] = int(self._file.values("mask", "blur_size", (3, 3))[0])
        by_otsu = "otsu" in str(self._file.get("mask", "algorithm", "")).lower()
        if self._file.flag("mask", "binarize") and not by_otsu:
            found["threshold"] = int(self._file.number("mask", "threshold", 127))
        else:
            self._notes.append(
                "[mask] binarize is off: the seeds then take every value but 0 for foreground, "
                "compression noise included; here Otsu's value over all training masks decides"
            )
        return found

    def _loss(self) -> str:
        name = str(self._file.get("model", "loss", "binary_crossentropy"))
        return loss_name(name)

    def _fit(self) -> Tree:
        patience = int(self._file.number("train", "patience", 10))
        is_old = self._file.get("model", "model") is None
        clip = self._file.number("model", "clipvalue", 0.0 if is_old else 0.2)
        found: Tree = {
            "batch": self._batch,
            "epochs": int(self._file.number("train", "epochs", 100)),
            "steps_per_epoch": 0,
            "optimizer": str(self._file.get("model", "optimizer", "Adam")).lower(),
            "learning_rate": float(self._file.number("model", "learning_rate", 1e-4)),
            "schedule": "constant",
            "warmup_steps": 0,
            "clipnorm": 0.0,
            "clipvalue": float(clip),
            "weight_decay": 0.0,
            "ema": 0.0,
            "patience": max(0, patience),
            "workers": 2,
        }
        if self._file.flag("train", "learning_rate_reducer"):
            found["schedule"] = "plateau"
            found["reduce_factor"] = float(self._file.number("train", "reducer_factor", 0.1))
            half = max(1, patience // 2)
            found["reduce_patience"] = int(self._file.number("train", "reducer_patience", half))
        if self._augments:
            found["steps_per_epoch"] = int(self._file.number("train", "steps_per_epoch", 400))
            steps = int(self._file.number("train", "validation_steps", 800))
            found["valid_images"] = steps * self._batch
        return found

    def _watch(self) -> Tree:
        return {
            "plain": self._file.flag("train", "epoch_change_infer"),
            "tiled": self._file.flag("train", "epoch_change_tiledinfer"),
            "count": int(self._file.number("train", "num_infer_images", 1)),
            "images": self._file.get("infer", "images_dir"),
        }

    def _infer(self) -> Tree:
        grey = self._file.get(
            "infer", "threshold", self._file.get("tiledinfer", "threshold", 127.5)
        )
        found = {
            "images": self._file.get("infer", "images_dir"),
            "output": self._file.get("infer", "output_dir", "./mini_test_output"),
            "merged": self._file.get("infer", "merged_dir"),
            "tiled_images": self._file.get("tiledinfer", "images_dir"),
            "tiled_output": self._file.get("tiledinfer", "output_dir", "./tiled_mini_test_output"),
            "tiled_merged": self._file.get("tiledinfer", "merged_dir"),
            "tile_px": self._file.get("tiledinfer", "split_size"),
            "overlap_px": int(self._file.number("tiledinfer", "overlapping", 0)),
            "threshold": round(float(grey) / 255, 4),
            "colorize": self._file.flag("segmentation", "colorize")
            or self._file.flag("infer", "mask_colorize"),
        }
        return {key: value for key, value in found.items() if value is not None}
