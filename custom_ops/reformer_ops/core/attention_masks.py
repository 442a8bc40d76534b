"""Constants in the definition of both attentions, shared by every backend."""

from __future__ import annotations

ALLOWED = 3e38
"""The limit of the score of a key that counts, where the minimum of scores and limits is used."""

MASKED = -1e9
"""Score of a key that is padding or is in the future (Hugging Face, fp32)."""

SELF = -1e5
"""Score of a query's own position in shared-QK attention: it has weight only if there is no other
key."""

ABSENT = -3e38
"""Score of a key that does not exist: its weight is exactly zero, even if all other keys are
MASKED."""

KEY_NORM_EPSILON = 1e-6
"""Added to the mean square of a query before it is normalised into a key."""
