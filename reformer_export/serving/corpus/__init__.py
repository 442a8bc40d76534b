"""Running a model over a corpus: shards in, shards out, on one machine or a Ray cluster."""
