"""Demonstrations on disk: written whole, read as data only; numpy, no torch."""
