"""The arm: kinematics, what it is allowed to do, how a keypose is carried out, and the driver for a Franka."""
