"""One new token of `sorted_chunk_attention`: it attends the cached keys around its place in the
sorted sequence."""
