"""Operations are those of the graph, and the matrix products are real ONNX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cellseg.bench.meters.flops import gflop_per_mpx
from cellseg.bench.meters.gemm import matmul_model, measure_peaks
from cellseg.runtime.bundles.bundle import Bundle
from tests.bundles import make_bundle


def test_the_operations_of_two_convolutions_are_counted(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny.cellseg")
    per_pixel = 2 * (3 * 3 * 3 * 8 + 3 * 3 * 8 * 2)
    assert gflop_per_mpx(bundle) == pytest.approx(per_pixel / 1e3)


def test_the_shipped_network_costs_what_its_page_says() -> None:
    assert gflop_per_mpx(Bundle.open("nuclei")) == pytest.approx(19.4, rel=0.05)


@pytest.mark.parametrize("is_int8", [False, True])
def test_the_matrix_product_is_valid_onnx_and_multiplies(is_int8: bool) -> None:
    data = matmul_model(64, is_int8=is_int8)
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    weights = onnx.numpy_helper.to_array(model.graph.initializer[0]).astype(np.float32)
    matrix = np.random.default_rng(0).random((64, 64), np.float32)
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"a": matrix})
    if not is_int8:
        np.testing.assert_allclose(found, matrix @ weights, rtol=1e-4)
    else:  # processors without VNNI saturate some sums of two products
        exact = np.maximum(matrix @ (weights / 127), 0)
        assert np.corrcoef(found.ravel(), exact.ravel())[0, 1] > 0.99


def test_peaks_are_measured_where_a_library_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cellseg.bench.meters.gemm._ROUND_S", 0.001)
    peaks = measure_peaks(1, side=64)
    assert set(peaks) == {"fp32", "bf16", "int8"}
    assert peaks["fp32"] is not None
    assert peaks["int8"] is not None
    assert peaks["fp32"].gflop_s > 0
