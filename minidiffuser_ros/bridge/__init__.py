"""Where ROS begins: messages ↔ arrays, dataclasses ↔ parameters, QoS, and the base of the nodes. No torch."""
