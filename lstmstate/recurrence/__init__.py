"""The recurrences of a graph: loops, their states, inputs and outputs, as one network to evaluate.

It finds c and m by what a step does with them, so that a cell needs no family to be run.
"""
