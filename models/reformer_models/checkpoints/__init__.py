"""Opening what Hugging Face's `save_pretrained` wrote, from a folder or from the hub.

`checkpoint.py` puts it together: `hub.py` downloads, `layout.py` finds the weight files of a
folder, `tensors.py` reads one of them, `names.py` translates the tensors' names, `architecture.py`
tells from these which model they are of.
"""

from reformer_models.checkpoints.checkpoint import Checkpoint, open_checkpoint

__all__ = ["Checkpoint", "open_checkpoint"]
