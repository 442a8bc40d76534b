"""What a training step takes: time and memory, beside Hugging Face's and full attention's."""
