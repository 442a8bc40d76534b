"""What the kernels for GPUs share. Nothing here knows a particular operator."""
