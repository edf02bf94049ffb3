"""The networks: tensors in, tensors out; no diffusion, no data, no ROS."""
