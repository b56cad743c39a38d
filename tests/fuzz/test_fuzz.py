"""Some of what `make fuzz` tries."""

import pytest

from tests.fuzz.__main__ import fuzz


@pytest.mark.parametrize(
    "cases", [150, pytest.param(6000, marks=[pytest.mark.matrix, pytest.mark.timeout(900)])]
)
def test_hostile_records_and_responses_pass(tmp_path, cases):
    report = fuzz(cases, seed=1, folder=tmp_path)
    assert report.records + report.responses >= cases
    assert report.encoded > cases // 30
    assert report.found == []
