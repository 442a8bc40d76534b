"""Other attention mechanisms in the Reformer model: benchmarks of their cost and their learning.

They are for comparison only: our models do not use them. A baseline is a module that replaces the
self-attention of a layer; embeddings, reversible layers, feed-forward and head are unchanged. It is
exported by the same path and measured by the same benchmark. `make bench-attention` is
`python -m benchmarks.baselines`; docs/attention.md describes the measurements.
"""
