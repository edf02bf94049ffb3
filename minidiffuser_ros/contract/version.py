"""The version that recordings and caches note down; the same as in package.xml and setup.py, checked by a test."""

VERSION = "0.1.0"
