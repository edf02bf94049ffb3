"""Packages that only a converter needs."""

from __future__ import annotations

import importlib
from typing import Any

from minidiffuser_ros.contract.errors import ConfigurationError


def need(module: str, purpose: str) -> Any:
    """The imported module. Raises ConfigurationError saying how to install what is missing."""
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.split(".")[0]
        raise ConfigurationError(
            f"{purpose} needs the package {package}, which is not installed: pip install 'minidiffuser_ros[converters]'"
        ) from None
