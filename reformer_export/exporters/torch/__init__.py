"""model.pt (TorchScript), model.pt2 (AOTInductor) and model.pte (ExecuTorch)."""
