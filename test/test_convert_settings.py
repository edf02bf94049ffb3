"""Observation settings for `minidiffuser episodes convert` come from a file, which is data."""

from __future__ import annotations

from pathlib import Path

import pytest

from minidiffuser_ros.cli.main import main


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("voxel_size: wide", "holds a value that cannot be"), ("voxel_size: 3.0", "between 0.001 and 0.1 m, got 3.0"),
        ("grid: 1", "unknown observation settings ['grid']"), ("- 1", "must map observation settings to values"),
        ("[" * 100_000, "cannot read"), ("!!python/object/apply:os.getcwd []", "cannot read"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(
    tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "spec.yaml").write_text(text)
    words = ("--from", "step-hdf5", "--out", tmp_path / "out", "--spec", tmp_path / "spec.yaml")
    assert main(["episodes", "convert", *map(str, (tmp_path, *words))]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1
