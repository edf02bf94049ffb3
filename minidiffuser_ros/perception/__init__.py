"""From RGB-D images and joint states to the observation a policy sees. Never any privileged information."""
