"""The signature of models that take series of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from reformer_export.artifact.base_signature import Signature, TensorSpec, read_specs
from reformer_export.artifact.fields import Fields
from reformer_export.errors import ArtifactError, InputError

SERIES = "series"
TIME_FEATURES = "time_features"


@dataclass(frozen=True)
class SeriesSignature(Signature):
    """The signature of a model of series: it also has the horizon and the tables of the time.

    Attributes:
        horizon: the steps after the series for which time features are needed, too.
        time_tables: for each time feature the number of its values 0, 1, ...; empty if time
            features are real numbers.
    """

    kind: ClassVar[str] = "series"
    main_input: ClassVar[str] = SERIES
    unit: ClassVar[str] = "steps"

    horizon: int = 0
    time_tables: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        *,
        channels: int,
        time_features: int,
        outputs: tuple[TensorSpec, ...],
        horizon: int,
        time_tables: tuple[int, ...],
        max_length: int,
    ) -> SeriesSignature:
        """The signature of a model that takes so many channels and time features."""
        inputs = [TensorSpec(SERIES, "float32", ("batch", "sequence", channels))]
        if time_features:
            steps = f"sequence + {horizon}" if horizon else "sequence"
            inputs.append(TensorSpec(TIME_FEATURES, "float32", ("batch", steps, time_features)))
        return cls(
            inputs=tuple(inputs),
            outputs=outputs,
            min_length=1,
            max_length=max_length,
            horizon=horizon,
            time_tables=time_tables,
        )

    def check(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return all inputs as a runtime needs them, C-contiguous fp32.

        `inputs` maps names to anything that NumPy reads as real numbers: `series`
        [batch, sequence, channels] and, if the model has this input, `time_features`
        [batch, sequence + horizon, features]. Raises InputError for a wrong name, shape or dtype,
        an empty batch, a length outside [min_length, max_length], numbers that are not finite in
        fp32, and a time feature outside its table.
        """
        specs = {spec.name: spec for spec in self.inputs}
        for name in inputs:
            if name not in specs:
                raise InputError(f"the model has no input {name!r}: it takes {', '.join(specs)}")
        for name, spec in specs.items():
            if name not in inputs:
                raise InputError(f"{name} is missing: give numbers as {_axes(spec)}")
        series = _numbers(specs[SERIES], inputs[SERIES])
        batch, length, channels = series.shape
        if batch == 0:
            raise InputError(f"{SERIES} has an empty batch: give at least one row")
        if channels != specs[SERIES].axes[2]:
            raise InputError(
                f"{SERIES} has {channels} channels, and the model takes {specs[SERIES].axes[2]}"
            )
        if not self.min_length <= length <= self.max_length:
            raise InputError(f"{SERIES} holds {length} steps; the model takes {self.lengths}")
        checked = {SERIES: series}
        if TIME_FEATURES in specs:
            checked[TIME_FEATURES] = self._check_time(
                specs[TIME_FEATURES], inputs[TIME_FEATURES], batch, length
            )
        return checked

    def _check_time(self, spec: TensorSpec, value: Any, batch: int, length: int) -> np.ndarray:
        times = _numbers(spec, value)
        wanted = spec.shape(batch, length)
        if times.shape != wanted:
            after = f", of the series and of the {self.horizon} steps after it"
            raise InputError(
                f"{TIME_FEATURES} has shape {list(times.shape)}, and this series needs "
                f"{list(wanted)}{after if self.horizon else ''}"
            )
        for feature, size in enumerate(self.time_tables):
            column = times[..., feature]
            outside = (column < 0) | (column >= size) | (column != np.floor(column))
            if outside.any():
                row, step = np.argwhere(outside)[0].tolist()
                raise InputError(
                    f"{TIME_FEATURES}[{row}, {step}, {feature}] is {column[row, step]:g}, not a "
                    f"whole number in 0..{size - 1}"
                )
        return times

    def random_inputs(self, rng: np.random.Generator, batch: int, length: int) -> dict[str, Any]:
        """Normal numbers, and random times."""
        found: dict[str, Any] = {}
        for spec in self.inputs:
            shape = spec.shape(batch, length)
            if spec.name == SERIES:
                found[SERIES] = rng.standard_normal(shape, dtype=np.float32)
            elif self.time_tables:
                found[spec.name] = rng.integers(0, self.time_tables, shape)
            else:
                found[spec.name] = rng.random(shape, dtype=np.float32) - 0.5
        return found

    def limits(self) -> dict[str, Any]:
        """The horizon and the tables of the time."""
        return {"horizon": self.horizon, "time_tables": list(self.time_tables)}

    def summary(self) -> tuple[tuple[str, str], ...]:
        """All bounds as (label, text) lines for people."""
        lines = [("series", self.lengths)]
        if self.horizon:
            lines.append(("horizon", f"{self.horizon} steps"))
        if self.time_tables:
            highest = ", ".join(str(size - 1) for size in self.time_tables)
            lines.append(("times", f"whole numbers from 0 to {highest}"))
        return tuple(lines)

    def descriptions(self) -> dict[str, str]:
        """A sentence about each input, by name."""
        values = "whole numbers" if self.time_tables else "real numbers"
        return {
            SERIES: f"The numbers of each step, in the order of time; {self.lengths}.",
            TIME_FEATURES: f"The time of each step of the series and of the {self.horizon} steps "
            f"after it, as {values}.",
        }

    @classmethod
    def from_json(cls, fields: Fields) -> SeriesSignature:
        """Read what `to_json` wrote; raises ArtifactError, which names the wrong field."""
        specs = read_specs(fields)
        horizon = fields.integer("horizon", minimum=0)
        tables = fields.integers("time_tables")
        sizes = [spec.axes[-1] for spec in specs["inputs"] if spec.axes]
        signature = cls(**specs, horizon=horizon, time_tables=tables)
        if 0 < len(sizes) < 3 and all(isinstance(size, int) for size in sizes):
            channels, features = int(sizes[0]), int(sizes[1]) if len(sizes) == 2 else 0
            expected = cls.of(
                channels=channels,
                time_features=features,
                outputs=specs["outputs"],
                horizon=horizon,
                time_tables=tables,
                max_length=specs["max_length"],
            )
            if signature.inputs == expected.inputs and len(tables) in (0, features):
                return signature
        found = "; ".join(map(str, specs["inputs"])) or "none"
        raise ArtifactError(
            f"{fields.where}.inputs must be {SERIES}, float32 [batch, sequence, channels], and "
            f"perhaps {TIME_FEATURES}, float32 [batch, sequence + {horizon}, features], found "
            f"{found}"
        )


def _axes(spec: TensorSpec) -> str:
    return f"[{', '.join(map(str, spec.axes))}]"


def _numbers(spec: TensorSpec, value: Any) -> np.ndarray:
    """The value as C-contiguous fp32 of three axes; raises InputError."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{spec.name} is not an array of numbers: {reason}") from error
    if array.dtype.kind not in "iuf":
        raise InputError(f"{spec.name} must be real numbers, found {array.dtype}: cast to float32")
    if array.ndim != 3:
        remedy = f": add the batch axis, {spec.name}[None]" if array.ndim == 2 else ""
        raise InputError(
            f"{spec.name} must be {_axes(spec)}, found shape {list(array.shape)}{remedy}"
        )
    with np.errstate(over="ignore"):  # too large for fp32: an error below
        numbers = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(numbers).all():
        place = ", ".join(map(str, np.argwhere(~np.isfinite(numbers))[0].tolist()))
        raise InputError(
            f"{spec.name}[{place}] is {array[tuple(np.argwhere(~np.isfinite(numbers))[0])]}, not a "
            "finite number of fp32: fill gaps and scale large numbers"
        )
    return numbers
