"""Learning a policy offline: demonstrations, two-level minibatches, the loop."""
