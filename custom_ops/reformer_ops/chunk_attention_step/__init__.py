"""One new token of `chunk_attention`: it attends the window of cached keys before it."""
