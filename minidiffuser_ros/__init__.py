"""Keypose diffusion policies on 3-D point tokens for Franka arms, in ROS 2."""

import pkgutil

# The generated messages live in an overlay beside these sources: search both for `minidiffuser_ros.msg`.
__path__ = pkgutil.extend_path(__path__, __name__)
