"""A GraphDef evaluated in NumPy: operations, compiled plans, loops. It knows no LSTM."""
