"""Open checkpoints, their cells and stacks, and the networks that run them."""
