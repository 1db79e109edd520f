"""Recurrences of a graph, joined to one network that an engine can evaluate.

No cell family has to be known: c and m are found by evaluating a step on made-up values (`probe`).

1. Recurrences: loops (`loop`), operations over a whole sequence (`sequence_ops`), unrolled steps
   (`step_chain` for known cells, `unrolled` for others), without their branches for sequences that
   have ended (`sequence_ends`).
2. Carried values: the loop variables, or the tensors that one unrolled step passes to the next.
3. c and m among them: `states`, and `single_step` for a graph with one step only.
4. Cells, with the tensors to feed and fetch, and their outputs: `loop_cells`, `unrolled_cells`.
5. Input x: the paths between recurrences (`data_path`), sequences that a loop slices (`loop`),
   placeholders without a shape (`probe`), the tensors for x (`network_input`).
6. Later layers that are not run: `after_outputs`.
7. Sequence lengths (`sequence_ends`), the graph's own initial state (`initial_state_values`), the
   order of c and m in one fed array (`fed_order`), the values of variables (`variable_values`).
8. One network of all this: `find_networks`; its types are in `graph_network`.
"""
