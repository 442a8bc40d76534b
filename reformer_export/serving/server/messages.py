"""What the server and a worker process say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reformer_export.generation.sampling import Sampling

# Server to worker. None asks a worker to end.


@dataclass(frozen=True)
class Infer:
    """Run the model on a batch of checked inputs."""

    inputs: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Generate:
    """Continue a checked prompt.

    Attributes:
        job: the number under which tokens are returned.
        prompt: `[length]` int64.
        row: the row of the sequence in its request; each row has its own random numbers.
        stop: ids that end the sequence; None for the model's.
    """

    job: int
    prompt: NDArray[np.int64]
    max_new_tokens: int
    sampling: Sampling
    row: int
    stop: frozenset[int] | None


@dataclass(frozen=True)
class Cancel:
    """Stop generating for a job. Some of its tokens may be on the way."""

    job: int


# Worker to server.


@dataclass(frozen=True)
class Ready:
    """The model is open."""

    description: str


@dataclass(frozen=True)
class Unusable:
    """The model cannot be opened; the worker ends."""

    reason: str


@dataclass(frozen=True)
class Outputs:
    """The outputs of the last `Infer`, or the reason why there are none."""

    outputs: dict[str, NDArray[Any]] | None
    error: str | None = None


@dataclass(frozen=True)
class NewToken:
    """The next token of a job.

    Attributes:
        finished: "stop" (the token ends the sequence), "length" (it is the last one allowed), or
            None.
    """

    job: int
    token: int
    finished: str | None


@dataclass(frozen=True)
class Failed:
    """A job cannot be continued."""

    job: int
    reason: str


Message = Infer | Generate | Cancel | None
Answer = Ready | Unusable | Outputs | list[NewToken] | Failed
