"""Runs an artifact on token ids, in the fastest runtime that is available.

python examples/run_artifact.py ARTIFACT
"""

import sys

import numpy as np

import reformer_export

runner = reformer_export.open_runner(sys.argv[1])
ids = np.arange(1000)[None, :] % runner.signature.vocab_size
outputs = runner.run({"input_ids": ids})
print(f"{runner.name} ({runner.description})")
for name, array in outputs.items():
    print(f"{name}: {array.dtype} {list(array.shape)}, mean {array.mean():.4f}")
