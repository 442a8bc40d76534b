"""Opens checkpoints of Transformers and of other libraries, from a folder or from the hub.

`checkpoint.py` uses the other modules: `hub.py` downloads, `layout.py` finds the weight files of a
folder, `tensors.py` reads one of them (`arrays.py` and `unpickling.py` those of JAX libraries), and
`sources/` has a module for each library, which reads its configuration and translates its weights.
For Transformers, `names.py` handles prefixes of the tensors' names, and `architecture.py` finds the
architecture from these names.
"""

from reformer_models.checkpoints.checkpoint import Checkpoint, open_checkpoint

__all__ = ["Checkpoint", "open_checkpoint"]
