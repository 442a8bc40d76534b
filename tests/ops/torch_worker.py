"""Calls functions in a separate process, whose environment selects the operators of torch.

Reads pickles of ("module:function", arguments) from stdin and answers each with a pickle of the
result or of the error.
"""

from __future__ import annotations

import importlib
import os
import pickle
import sys
from typing import Any


def call(what: str, arguments: tuple[Any, ...]) -> Any:
    module, _, function = what.partition(":")
    return getattr(importlib.import_module(module), function)(*arguments)


def main() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # prints must not corrupt the pickles
    while True:
        try:
            what, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = call(what, arguments)
        except Exception as error:
            answer = error
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
