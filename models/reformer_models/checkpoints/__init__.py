"""Opens checkpoints that Hugging Face's `save_pretrained` wrote, from a folder or from the hub.

`checkpoint.py` uses the other modules: `hub.py` downloads, `layout.py` finds the weight files of a
folder, `tensors.py` reads one of them, `names.py` translates the tensors' names, and
`architecture.py` finds the architecture from these names.
"""

from reformer_models.checkpoints.checkpoint import Checkpoint, open_checkpoint

__all__ = ["Checkpoint", "open_checkpoint"]
