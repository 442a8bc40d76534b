"""Other attentions in the Reformer's model: the cost of each, and what it learns.

For comparison only: our models do not use them. A baseline is a module that takes the place of a
layer's self-attention; embeddings, reversible layers, feed-forward and head stay. It is exported by
the same path and measured by the same benchmark. `make bench-attention` is
`python -m benchmarks.baselines`; docs/attention.md says what is measured and how.
"""
