"""model.pt (TorchScript) and model.pt2 (AOTInductor)."""
