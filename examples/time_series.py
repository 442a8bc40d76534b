"""Trains a Reformer on a series, exports it, and plots its forecast beside the truth.

The series is the carbon dioxide in the air of Mauna Loa from 1958 to 2001, which statsmodels ships.
The last years are held out. The model forecasts two years from four; it has the layers of
Time-Series-Library's Reformer, and its checkpoint is one that this library could have written.

    pip install statsmodels matplotlib
    python examples/time_series.py my-forecast      # about a minute on two cores

`my-forecast` then holds the checkpoint, the verified artifact, forecast.png and results.json.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import torch

from reformer_export import open_runner, to_onnx
from reformer_models.checkpoints.sources.time_series_library import Arguments
from reformer_models.layers.time_series import FORECAST, TimeSeriesReformer
from reformer_models.training.time_series import create_time_series_model, save_time_series_model

STEPS = 800
YEAR = 12  # months
HELD_OUT = 4 * YEAR  # two forecasts

ARGUMENTS = Arguments(
    task_name="short_term_forecast",  # the model normalises each window, so it takes raw numbers
    seq_len=4 * YEAR,
    pred_len=2 * YEAR,
    enc_in=1,
    c_out=1,
    d_model=32,
    n_heads=4,
    e_layers=2,
    d_ff=64,
    dropout=0.05,
)


def carbon_dioxide() -> tuple[np.ndarray, np.ndarray]:
    """The months as years, and the parts per million of each, `[months]`."""
    from statsmodels.datasets import co2

    weeks = co2.load_pandas().data["co2"]
    months = weeks.resample("MS").mean().interpolate()
    years = months.index.year + (months.index.month - 1) / YEAR
    return years.to_numpy(float), months.to_numpy(np.float32)


def windows(series: np.ndarray, length: int) -> torch.Tensor:
    """All pieces of a series, `[pieces, length, 1]`."""
    return torch.from_numpy(series.copy()).unfold(0, length, 1).unsqueeze(-1)


def train(series: np.ndarray, steps: int) -> TimeSeriesReformer:
    """A model that has learnt to forecast the series; the loss is in units of each window."""
    model = create_time_series_model(ARGUMENTS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    pieces = windows(series, ARGUMENTS.seq_len + ARGUMENTS.pred_len)
    torch.manual_seed(0)
    for step in range(steps):
        batch = pieces[torch.randint(len(pieces), (32,))]
        past, future = batch[:, : ARGUMENTS.seq_len], batch[:, ARGUMENTS.seq_len :]
        error = (model(past)[FORECAST] - future) / past.std(dim=1, keepdim=True)
        loss = error.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            click.echo(f"step {step:4d}: loss {loss.item():.3f}")
    return model.eval()


def error_of(forecast: np.ndarray, truth: np.ndarray) -> float:
    """The root of the mean squared error, in parts per million."""
    return float(np.sqrt(np.square(forecast - truth).mean()))


def plot(
    path: Path, years: np.ndarray, series: np.ndarray, forecasts: list[np.ndarray], first: int
) -> None:
    """Draw the last years of the series, and the forecasts, of which the first is at `first`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 3), layout="constrained")
    shown = slice(first - ARGUMENTS.seq_len, None)
    axes.plot(years[shown], series[shown], color="0.4", label="observed")
    for number, forecast in enumerate(forecasts):
        start = first + number * len(forecast)
        label = "forecast by the exported model" if number == 0 else None
        axes.plot(years[start : start + len(forecast)], forecast, color="tab:red", label=label)
        axes.axvline(years[start], color="0.8", linestyle=":")
    axes.set(ylabel="CO2, parts per million")
    axes.legend(loc="upper left", fontsize="small")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


@click.command(help=__doc__.partition("\n")[0])
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--steps", default=STEPS, show_default=True, help="Steps of the training.")
def main(out: Path, steps: int) -> None:
    torch.set_num_threads(1)  # the model is so small that threads would only wait for each other
    years, series = carbon_dioxide()
    first = len(series) - HELD_OUT
    model = train(series[:first], steps)
    save_time_series_model(model, out / "checkpoint", ARGUMENTS)
    artifact = to_onnx(out / "checkpoint", out / "artifact", force=True)
    click.echo(f"{artifact.path} is verified: {artifact.parity('onnx')['summary']}")

    # Each forecast sees only the years before it.
    runner = open_runner(artifact)
    starts = range(first, len(series), ARGUMENTS.pred_len)
    forecasts, repeated, raised = [], [], []
    for start in starts:
        past = series[start - ARGUMENTS.seq_len : start]
        forecasts.append(runner.run({"series": past[None, :, None]})[FORECAST][0, :, 0])
        repeated.append(np.tile(past[-YEAR:], ARGUMENTS.pred_len // YEAR))
        growth = past[-YEAR:].mean() - past[-2 * YEAR : -YEAR].mean()
        raised.append(repeated[-1] + growth * np.repeat([1, 2], YEAR))
    truth = series[first:]
    errors = {
        "model": error_of(np.concatenate(forecasts), truth),
        "the last year again": error_of(np.concatenate(repeated), truth),
        "the last year again, raised by its growth": error_of(np.concatenate(raised), truth),
    }
    for name, error in errors.items():
        click.echo(f"{name:42s} error {error:.2f} ppm (root mean square)")
    plot(out / "forecast.png", years, series, forecasts, first)
    (out / "results.json").write_text(json.dumps(errors, indent=2) + "\n")
    click.echo(f"wrote {out / 'forecast.png'}")


if __name__ == "__main__":
    main()
