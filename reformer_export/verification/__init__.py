"""Proof that every runtime gives the model's numbers."""
