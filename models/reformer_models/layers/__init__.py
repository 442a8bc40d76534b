"""The model: layers, and the heads on top of them."""
