"""Weights of a network as other programs take them: one row of `targets` for each."""
