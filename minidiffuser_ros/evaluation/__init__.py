"""How well a policy does: runs on the graph and in simulation, statistics, reports and pictures."""
