"""A csv file in, a csv file with a forecast and its quantile bands out.

The file has one row per moment, numeric columns, and perhaps a column of times in front.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

import anyany
from anyany import TimeSeries

LEVELS = (0.1, 0.5, 0.9)


def banded(forecast: TimeSeries, points: int) -> TimeSeries:
    """For each column of a forecast, one column per level; the first ``points`` of it."""
    names, values = [], []
    for index, name in enumerate(forecast.columns):
        for level in LEVELS:
            names.append(f"{name} {level:.0%}")
            values.append(forecast.band(level)[:points, index])
    times = None if forecast.times is None else forecast.times[:points]
    return TimeSeries(np.stack(values, axis=1), tuple(names), times, forecast.frequency)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--model", default="mini", help="'mini' or a checkpoint folder")
    parser.add_argument("--out", type=Path, default=Path("forecast.csv"))
    parser.add_argument("--points", type=int, default=96)
    parser.add_argument("--past", type=int, default=336, help="how many of the last points the model sees")
    args = parser.parse_args(argv)

    model = anyany.load(args.model)
    past = TimeSeries.open(args.csv)
    seen = slice(-args.past, None)
    past = replace(past, values=past.values[seen], times=None if past.times is None else past.times[seen])

    # A row of the sequence is a patch of one column; the budget is counted in rows.
    patch = model.codecs["timeseries/patches"].patch
    rows = -(-args.points // patch) * len(past.columns)
    reply = model.generate([past, "How does it go on?"], want=["timeseries"], budgets={"timeseries": rows})
    forecast = banded(reply.parts[0], args.points)
    forecast.save(args.out)
    print(f"{len(past)} points seen, {len(forecast)} points forecast: {args.out}")


if __name__ == "__main__":
    main()
