#!/usr/bin/env bash
# Install the Debian packages that the build needs and the machine lacks. Usage: system_packages.sh PYTHON
set -euo pipefail

python=$1
missing=()

need() { # package
  dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed || missing+=("$1")
}

if ! command -v dpkg-query >/dev/null; then
  echo "no dpkg here: install a C++ compiler, cmake, Python headers, EGL or OSMesa, and libgomp yourself" >&2
  exit 0
fi

for package in build-essential cmake libegl1 libgl1 libgl1-mesa-dri libgomp1 libosmesa6 libudev1 libusb-1.0-0 libx11-6; do
  need "$package"
done
if ! command -v "$python" >/dev/null; then
  missing+=(python3 python3-venv python3-dev)
elif ! "$python" -c 'import ensurepip, os, sysconfig; open(os.path.join(sysconfig.get_path("include"), "Python.h"))' 2>/dev/null; then
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  missing+=("python$version-venv" "python$version-dev")
fi

[ ${#missing[@]} -eq 0 ] && exit 0

echo "installing Debian packages: ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "run as root, or install them yourself: apt-get install ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
"${as_root[@]}" apt-get update -qq
# OSMesa is only the way out where EGL does not work, and the newest Ubuntu has dropped it.
available=()
for package in "${missing[@]}"; do
  if [ "$package" = libosmesa6 ] && ! apt-cache show "$package" >/dev/null 2>&1; then continue; fi
  available+=("$package")
done
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -qq -y --no-install-recommends "${available[@]}" >/dev/null
