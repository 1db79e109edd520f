"""One module for each thing that lstmstate does: load, convert, compare, check, run, verify."""
