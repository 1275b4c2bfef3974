"""Every notebook as it is shipped: nothing fails, and nothing becomes yours."""

import shutil
from pathlib import Path

import pytest

from tests.notebooks.running import NOTEBOOKS, progress, run


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_blank(path: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(path, tmp_path / path.name))
    result = run(copy, tmp_path / "my_parts")
    assert result.returncode == 0, result.stdout[-4000:]
    assert "\n0 of " in progress(tmp_path / "my_parts")
