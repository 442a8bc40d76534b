"""Time and memory of a training step, beside Hugging Face's and full attention's."""
