"""A pass that does not keep its promises changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cellseg.errors import ExportError
from cellseg.export.passes import run_pass
from cellseg.export.passes.fold_batchnorm import FoldBatchNorm
from tests.export.graphs import Sketch, ops

if TYPE_CHECKING:
    from cellseg.export.onnx_graph.graph import Graph


class Breaks:
    """Leaves a graph that is no graph any more."""

    name = "breaks"

    def requires(self, graph: Graph) -> None: ...

    def apply(self, graph: Graph) -> int:
        next(graph.of_type("Conv")).input[0] = "nothing"
        return 1

    def ensures(self, graph: Graph) -> None: ...


def test_pass_works_on_a_copy_and_counts_its_changes() -> None:
    model = Sketch().conv(4).batch_norm().model()
    before = model.SerializeToString()
    result = run_pass(FoldBatchNorm(), model)
    assert model.SerializeToString() == before
    assert result.changes == 1
    assert run_pass(FoldBatchNorm(), result.model).changes == 0


def test_pass_that_leaves_an_invalid_graph_is_refused() -> None:
    with pytest.raises(ExportError, match="'breaks' must leave a valid graph"):
        run_pass(Breaks(), Sketch().conv(4).model())


def test_what_nothing_leads_from_to_the_output_is_dropped() -> None:
    sketch = Sketch().conv(4)
    sketch.builder.node("Relu", [sketch.value], "unused")
    result = run_pass(FoldBatchNorm(), sketch.model())
    assert ops(result.model) == ["Transpose", "Cast", "Conv", "Transpose"]
