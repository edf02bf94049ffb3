#!/usr/bin/env bash
# Build messages and executables into install/. Usage: build_overlay.sh VENV
set -euo pipefail

venv=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."

export PATH="$venv/bin:$PATH"
if [ -d "$venv/share/rclpy" ]; then
  export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1 AMENT_PREFIX_PATH="$venv" CMAKE_PREFIX_PATH="$venv"
fi

# A build folder made with another environment or at another place cannot be continued.
cache=build/minidiffuser_ros/CMakeCache.txt
if [ -f $cache ] && ! { grep -q "^Python3_EXECUTABLE[^=]*=$venv/" $cache && grep -q "HOME_DIRECTORY[^=]*=$PWD\$" $cache; }; then
  rm -rf build install log
fi

mkdir -p build
# cppcheck and its friends do not come as wheels, hence no linters in the build; `make check` has its own.
if ! colcon build --paths . --symlink-install --cmake-args -DBUILD_TESTING=OFF "-DPython3_EXECUTABLE=$venv/bin/python" \
  >build/colcon.log 2>&1; then
  cat build/colcon.log >&2
  exit 1
fi

echo "$venv" >install/venv_path
"$venv/bin/python" scripts/probe_gl.py >install/mujoco_gl
