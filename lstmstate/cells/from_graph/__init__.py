"""LSTM cells, their options and their states, recognised in a graph."""
