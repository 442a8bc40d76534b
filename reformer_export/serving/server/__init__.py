"""The HTTP server: one process speaks HTTP and makes batches, worker processes run the model."""
