"""Weights and state of a run are of one epoch, whenever the run is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellseg.errors import TrainingError
from cellseg.train.loop.run_state import RunState


def save(folder: Path, epoch: int) -> None:
    model = folder / "last.tmp.keras"
    model.write_text(f"weights of epoch {epoch}")
    RunState(epoch, mean_weights=[np.full(2, float(epoch))]).save(folder, model)


def save_until_killed(folder: Path, epoch: int, renames: int) -> None:
    """Save, but for all that comes after so many renames."""
    rename, done = Path.replace, list[Path]()

    def replace(path: Path, target: Any) -> Path:
        done.append(path)
        return rename(path, target) if len(done) <= renames else path

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "replace", replace)
        save(folder, epoch)


@pytest.mark.parametrize("renames", [0, 1, 2])
@pytest.mark.parametrize("kills", [1, 2])
def test_a_kill_leaves_weights_with_their_own_state(
    renames: int, kills: int, tmp_path: Path
) -> None:
    save(tmp_path, 1)
    for _ in range(kills):
        save_until_killed(tmp_path, 2, renames)
    state = RunState.load(tmp_path)
    assert state.epoch == (1 if renames == 0 else 2)
    assert (tmp_path / "last.keras").read_text() == f"weights of epoch {state.epoch}"
    np.testing.assert_array_equal(state.mean_weights, [[state.epoch] * 2])


def test_weights_from_elsewhere_are_refused(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / "last.keras").write_text("others")
    with pytest.raises(TrainingError, match="another last.keras"):
        RunState.load(tmp_path)


def test_the_first_epoch_is_there_before_its_state_has_its_name(tmp_path: Path) -> None:
    save_until_killed(tmp_path, 1, 0)
    assert not RunState.is_in(tmp_path)  # no model
    save_until_killed(tmp_path, 1, 1)
    assert RunState.is_in(tmp_path)
    assert RunState.load(tmp_path).epoch == 1


def test_a_state_that_names_no_model_gives_way_to_one_that_names_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "state.npz", facts=np.array([5, 0.1, 4, -1]))
    save_until_killed(tmp_path, 6, 1)
    assert RunState.load(tmp_path).epoch == 6
    (tmp_path / "state.next.npz").write_bytes(b"half of it")
    assert RunState.load(tmp_path).epoch == 5
