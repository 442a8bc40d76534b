"""Shared-QK attention within chunks of the bucket-sorted sequence (Reformer, section 2)."""
