"""Label images of many origins, read and paired."""

from __future__ import annotations

import logging
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from cellseg.errors import DataError
from cellseg.runtime.evaluation.label_images import (
    find_label_images,
    pair_label_images,
    read_label_image,
)

LABELS = np.array([[0, 1, 1, 0], [0, 0, 300, 300]])


def save(path: Path, labels: np.ndarray = LABELS, dtype: type = np.uint16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, labels.astype(dtype))
    elif path.suffix == ".png":
        cv2.imwrite(str(path), labels.astype(dtype))
    else:
        tifffile.imwrite(path, labels.astype(dtype))
    return path


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("a.png", np.uint16), ("a.tif", np.uint32), ("a.tif", np.int32), ("a.ome.tif", np.uint32),
     ("a.npy", np.int64), ("a.tiff", np.float32)],
)  # fmt: skip
def test_every_usual_form_is_read(tmp_path: Path, name: str, dtype: type) -> None:
    path = save(tmp_path / name, dtype=dtype)
    assert np.array_equal(read_label_image(path), LABELS)
    assert find_label_images(tmp_path) == {"a": path}


def test_grey_saved_as_colour_is_read_and_true_colour_refused(tmp_path: Path) -> None:
    grey = np.repeat((LABELS // 300 * 7)[..., None], 3, axis=2)
    assert read_label_image(save(tmp_path / "a.png", grey, np.uint8)).max() == 7
    grey[0, 0] = (1, 2, 3)
    with pytest.raises(DataError, match=r"one channel.*shape=\(2, 4, 3\)"):
        read_label_image(save(tmp_path / "b.png", grey, np.uint8))


@pytest.mark.parametrize(
    "labels",
    [LABELS - 1, LABELS / 2, np.where(LABELS, np.nan, 1.0), LABELS + 1j, LABELS.astype("U4")],
    ids=["negative", "halves", "nan", "complex", "text"],
)
def test_what_numbers_no_object_is_refused(tmp_path: Path, labels: np.ndarray) -> None:
    with pytest.raises(DataError, match="whole numbers from 0 on"):
        read_label_image(save(tmp_path / "a.npy", labels, labels.dtype.type))


@pytest.mark.parametrize("content", [b"no image", b""], ids=["text", "empty"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    for name in ("a.png", "a.tif", "a.npy"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            read_label_image(tmp_path / name)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_numbers_behind_a_palette_count_not_its_colours(tmp_path: Path, bits: int) -> None:
    labels = np.arange(24).reshape(3, 8) % 2**bits
    palette = [9, 9, 9] * 2 + [200, 30, 30] * (2**bits - 2)  # numbers share colours
    path = tmp_path / "a.png"
    path.write_bytes(palette_png(labels, palette, bits))
    assert np.array_equal(read_label_image(path), labels)


def palette_png(labels: np.ndarray, palette: list[int], bits: int) -> bytes:
    rows = [np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - bits :] for row in labels]
    lines = b"".join(b"\0" + np.packbits(row.reshape(-1)).tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", labels.shape[1], labels.shape[0], bits, 3, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in (
        (b"IHDR", head), (b"PLTE", bytes(palette)), (b"tRNS", b"\0"),
        (b"IDAT", zlib.compress(lines)), (b"IEND", b""),
    ):  # fmt: skip
        crc = struct.pack(">I", zlib.crc32(kind + content))
        data += struct.pack(">I", len(content)) + kind + content + crc
    return data


def test_a_mask_of_many_cells_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mask = np.array([[255, 0, 0, 255]])
    with caplog.at_level(logging.WARNING, logger="cellseg"):
        read_label_image(save(tmp_path / "one.png", mask[:, :3], np.uint8))
        assert not caplog.records
        read_label_image(save(tmp_path / "two.png", mask, np.uint8))
    assert "255, in 2 pieces" in caplog.text


@pytest.mark.parametrize("white", [255, 65535])
def test_a_mask_with_soft_edges_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, white: int
) -> None:
    sharp = np.zeros((60, 60), np.float32)
    for index in range(9):
        cv2.circle(sharp, (10 + 20 * (index % 3), 10 + 20 * (index // 3)), 6, float(white), -1)
    with caplog.at_level(logging.WARNING, logger="cellseg"):
        read_label_image(save(tmp_path / "soft.png", cv2.GaussianBlur(sharp, (0, 0), 1.5)))
    assert "Is it a mask?" in caplog.text


def test_results_of_infer_are_paired_with_true_labels(tmp_path: Path) -> None:
    found = save(tmp_path / "out" / "field" / "labels.ome.tif", dtype=np.uint32)
    truth = save(tmp_path / "test" / "labels" / "field.png")
    (pair,) = pair_label_images(tmp_path / "out", tmp_path / "test")
    assert (pair.stem, pair.predicted, pair.truth) == ("field", found, truth)
    assert all(np.array_equal(labels, LABELS) for labels in pair.read())


def test_two_files_are_a_pair(tmp_path: Path) -> None:
    paths = save(tmp_path / "found.png"), save(tmp_path / "true.tif")
    assert pair_label_images(*paths)[0].stem == "true"


def test_a_truth_without_prediction_is_refused_and_the_reverse_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "p" / "a.png")
    save(tmp_path / "p" / "b.png")
    save(tmp_path / "t" / "a.png")
    with caplog.at_level(logging.WARNING, logger="cellseg"):
        assert [pair.stem for pair in pair_label_images(tmp_path / "p", tmp_path / "t")] == ["a"]
    assert "1 predicted label images have no truth" in caplog.text
    with pytest.raises(DataError, match=r"none for b \(1 of 2\)"):
        pair_label_images(tmp_path / "t", tmp_path / "p")


def test_sizes_must_agree(tmp_path: Path) -> None:
    save(tmp_path / "p" / "a.png")
    save(tmp_path / "t" / "a.png", LABELS[:, :3])
    (pair,) = pair_label_images(tmp_path / "p", tmp_path / "t")
    with pytest.raises(DataError, match=r"predicted=\(2, 4\), truth=\(2, 3\) for a"):
        pair.read()


def test_an_empty_folder_none_at_all_and_one_name_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none in"):
        find_label_images(tmp_path)
    with pytest.raises(DataError, match="no folder"):
        find_label_images(tmp_path / "nowhere")
    save(tmp_path / "a.png")
    save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="differ in name"):
        find_label_images(tmp_path)


def test_folders_of_one_result_each_are_compared_by_their_label_images(tmp_path: Path) -> None:
    for run in ("before", "after"):
        for name in ("labels.ome.tif", "classes.ome.tif", "density.ome.tif", "density.png"):
            save(tmp_path / run / name, dtype=np.uint16)
    (pair,) = pair_label_images(tmp_path / "before", tmp_path / "after")
    assert (pair.predicted.name, pair.truth.name) == ("labels.ome.tif", "labels.ome.tif")
    (pair,) = pair_label_images(tmp_path / "before", tmp_path / "after" / "labels.ome.tif")
    assert pair.predicted.parent.name == "before"
