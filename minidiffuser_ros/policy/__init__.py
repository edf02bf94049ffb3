"""From an observation and a sentence to a keypose: checkpoints, inference, checks, and the loop that uses them."""
