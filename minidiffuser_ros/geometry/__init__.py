"""Rigid transforms, rotations, the pinhole camera and simple volumes: numpy in, numpy out."""
