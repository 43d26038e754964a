"""The sections of `examples/benchmark.py`; each has a function ``measure``."""
