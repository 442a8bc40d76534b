"""From a checkpoint to files a runtime loads: one module a format."""
