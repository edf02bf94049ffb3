"""Motions around what stands in the way: collision checks, search, shortening, timing. Moves nothing."""
