# Source this from bash or zsh, in any folder: it sets up the shell for `minidiffuser` and the ROS 2 graph.
# Everything that you have set yourself (MUJOCO_GL, ROS_DOMAIN_ID, …) stays as it is; sourcing twice changes nothing.

if [ -n "${BASH_SOURCE:-}" ]; then
  _md_root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
else
  eval '_md_root=${${(%):-%x}:A:h}'  # zsh; hidden from bash, which cannot parse it
fi

# Put $2 first in the path list named $1 unless it is in it already.
_md_prepend() {
  eval "_md_list=\${$1:-}"
  case ":$_md_list:" in
    *":$2:"*) ;;
    *) export "$1=$2${_md_list:+:$_md_list}" ;;
  esac
  unset _md_list
}

if [ ! -f "$_md_root/install/venv_path" ]; then
  echo "minidiffuser_ros is not built: run 'make -C $_md_root build' first" >&2
  unset _md_root; unset -f _md_prepend
  return 1
fi

_md_venv=$(cat "$_md_root/install/venv_path")
_md_prefix="$_md_root/install/minidiffuser_ros"
_md_python=$(find "$_md_prefix" -maxdepth 5 -type d \( -name site-packages -o -name dist-packages \) | head -n 1)

_md_prepend PATH "$_md_venv/bin"
if [ -d "$_md_venv/share/rclpy" ]; then
  # ROS 2 from wheels lives in the environment. Its .pth file would start every interpreter twice to find the shared
  # libraries; they are on the path here, so tell it that this is done.
  _md_prepend AMENT_PREFIX_PATH "$_md_venv"
  for _md_libs in $(find "$_md_venv/lib/" -maxdepth 3 -type d -name 'ros_*.libs'); do
    _md_prepend LD_LIBRARY_PATH "$_md_libs"
  done
  _md_prepend LD_LIBRARY_PATH "$_md_venv/lib"
  export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
fi
_md_prepend AMENT_PREFIX_PATH "$_md_prefix"
_md_prepend LD_LIBRARY_PATH "$_md_prefix/lib"
# The overlay adds the generated messages; everything else comes from the sources, so that an edit needs no build.
_md_prepend PYTHONPATH "$_md_python"
_md_prepend PYTHONPATH "$_md_root"

if [ -z "${MUJOCO_GL:-}" ] && [ -s "$_md_root/install/mujoco_gl" ]; then
  MUJOCO_GL=$(cat "$_md_root/install/mujoco_gl"); export MUJOCO_GL
fi
# Small networks and clouds: more threads than cores in many processes cost far more than they bring.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# A robot's graph is nobody else's business unless you say so.
if [ "${ROS_DISTRO:-jazzy}" = humble ]; then
  export ROS_LOCALHOST_ONLY="${ROS_LOCALHOST_ONLY:-1}"
else
  export ROS_AUTOMATIC_DISCOVERY_RANGE="${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}"
fi

unset _md_root _md_venv _md_prefix _md_python
unset -f _md_prepend
