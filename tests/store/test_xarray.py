"""`xarray.open_zarr` opens a study as it is, at any moment, without a warning (warnings are errors here)."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from play import asked, field_of, make_spec, play, point, run, trial_of

from prefect_simopt.record import Record
from prefect_simopt.simulators.contract import Field
from prefect_simopt.sink import TrialSink
from prefect_simopt.storage import StudyLocation
from prefect_simopt.study import open_study
from prefect_simopt.trial import Status


def opened(location: StudyLocation, group: str | None = None, **how) -> xr.Dataset:
    options = {name: value for name, value in location.options.items() if name != "retry_seconds"}
    if options:
        options["use_listings_cache"] = False  # fsspec's, which would show this process what it saw before
    return xr.open_zarr(location.url, group=group, storage_options=options or None, **how)


@pytest.mark.parametrize("consolidated", [None, False, True])
def test_coordinates_names_and_units(location: StudyLocation, consolidated) -> None:
    spec = make_spec(16, replicates=2)
    play(location, spec)
    study = opened(location, consolidated=consolidated).load()
    assert dict(study.sizes) == {
        "trial": 16, "parameter": 3, "metric": 2, "replicate": 2, "field": 1, "byte": 32,
    }  # fmt: skip
    assert study.parameter.values.tolist() == ["x", "n", "material"]
    assert study.metric.values.tolist() == ["value", "side"]
    assert study.field.values.tolist() == ["ez"]
    assert study.trial.values.tolist() == list(range(16))
    assert study.parameter.attrs == {"unit": {"x": "nm"}, "choices": {"material": ["TiO2", "Ta2O5"]}}
    assert study.duration.attrs["units"] == "s"
    assert study.status.attrs["flag_meanings"] == "pending complete failed"
    assert study.attrs["spec"] == spec.document()
    assert float(study.parameters.sel(trial=4, parameter="x")) == point(4)["x"]
    assert ["TiO2", "Ta2O5"][int(study.parameters.sel(trial=4, parameter="material"))] == point(4)["material"]
    assert int(study.status.sel(trial=3)) == Status.FAILED
    assert np.isnan(study.metrics.sel(trial=3)).all()
    assert study.metrics.dims == ("trial", "metric")
    assert study.replicate_metrics.dims == ("trial", "replicate", "metric")
    fields = opened(location, "fields", consolidated=consolidated).load()
    assert fields.ez.dims == ("trial", "y", "x")
    assert fields.ez.attrs["units"] == "V/m"
    assert fields.x.attrs["units"] == "nm"
    assert fields.y.values.tolist() == ["low", "middle", "high"]
    np.testing.assert_array_equal(fields.ez.sel(trial=6), field_of(6).values)
    assert np.isnan(fields.ez.sel(trial=3)).all()


def test_a_study_opens_while_it_runs(location: StudyLocation) -> None:
    spec = make_spec()
    record = Record.open(location, spec=spec, provenance={})
    for consolidated in (None, False):
        assert dict(opened(location, consolidated=consolidated).sizes) == {}
    asked(record, spec)
    record.flush(force=True)
    assert opened(location).sizes["trial"] == 16
    assert float(opened(location).parameters[3, 0]) == point(3)["x"]
    outcome = run(spec, TrialSink(location, 16), 0)
    record.told([(trial_of(spec, 0, [outcome]), [outcome])])
    record.flush(force=True)
    for consolidated in (None, False):
        study = opened(location, consolidated=consolidated)
        assert study.status.values.tolist() == [1] + [0] * 15
        assert opened(location, "fields", consolidated=consolidated).ez.sel(trial=0).shape == (3, 4)
    record.close("interrupted")


def test_its_own_reader_gives_the_same_dataset(location: StudyLocation) -> None:
    play(location, make_spec())
    found = open_study(location.url, location.options)
    assert found.dataset.identical(opened(location))
    assert repr(found) == f"Study({found.url!r})"


def test_wide_studies_are_cut_into_blocks(location: StudyLocation) -> None:
    space = [{"name": f"x{i}", "type": "float", "low": 0, "high": 1} for i in range(150)]
    spec = make_spec(20, space=space, objectives=[{"metric": f"m{i}"} for i in range(3)])
    record = Record.open(location, spec=spec, provenance={})
    numbers = np.random.default_rng(0).random((20, 150))
    record.asked(0, list(range(20)), numbers, list(range(20)))
    record.close("interrupted")
    study = opened(location)
    np.testing.assert_array_equal(study.parameters, numbers)
    assert study.parameter.values.tolist() == [f"x{i}" for i in range(150)]
    np.testing.assert_array_equal(open_study(location.url, location.options)._column("parameters"), numbers)


def test_times_as_units_are_no_times_to_xarray(location: StudyLocation) -> None:
    field = Field(np.arange(3.0), ("t",), "seconds", {"t": [0.0, 1.0, 2.0]}, {"t": "hours"})
    sink = TrialSink(location, 16)
    spec = make_spec()
    record = Record.open(location, spec=spec, provenance={})
    asked(record, spec)
    outcome = run(spec, sink, 0)
    outcome = replace(outcome, fields={"lag": sink.put_field(0, "lag", field)})
    record.told([(trial_of(spec, 0, [outcome]), [outcome])])
    record.close("interrupted")
    fields = opened(location, "fields")
    assert fields.lag.dtype == np.float64
    assert fields.t.attrs["units"] == "h"
