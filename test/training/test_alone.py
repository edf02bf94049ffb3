"""A machine with torch, numpy, scipy and safetensors and nothing else trains."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("alone.py")


def test_a_training_needs_only_torch_numpy_scipy_and_safetensors(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, PROGRAM, tmp_path], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    blocked, *losses = result.stdout.split()
    assert int(blocked) > 10, "this environment holds nothing else, so that nothing was shown"
    assert len(losses) == 3
    assert (tmp_path / "model.safetensors").exists()
