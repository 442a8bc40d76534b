"""Angular locality-sensitive hashing of queries into buckets (Reformer, section 2)."""
