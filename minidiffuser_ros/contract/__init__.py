"""The narrow waist: what passes between robot, recordings, simulation and policy, and the errors a user can fix."""
