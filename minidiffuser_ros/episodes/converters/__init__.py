"""Demonstrations from and for other projects. Their files are data: nothing in them is executed or followed."""
