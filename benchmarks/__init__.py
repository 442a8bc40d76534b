"""Speed and memory of the whole project, and of training; see docs/benchmarks.md."""
