"""Values through a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cellseg.runtime.kernels.lookup import look_up

RNG = np.random.default_rng(2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_value_becomes_what_the_table_says(dtype: Any) -> None:
    table = RNG.integers(0, np.iinfo(dtype).max + 1, 65536).astype(dtype)
    values = RNG.permutation(65536).astype(np.uint16)
    out = np.empty(values.size, dtype)
    look_up(values, table, out)
    np.testing.assert_array_equal(out, table[values])
