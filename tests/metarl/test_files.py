"""What is read as JSON, and what is refused in one line."""

import json
import math

import pytest

from metarl.files import parse_json


def test_plain_json_is_read_as_json_reads_it():
    data = {"a": [1, -2.5, 1e300, None, True, "é"], "b": {"c": 10**300, "d": 2**80}}
    assert parse_json(json.dumps(data)) == parse_json(json.dumps(data).encode()) == data


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "Expecting value"),
        (b"\xff", "utf-8"),
        ("[" * 10_000 + "]" * 10_000, "nested too deeply"),
        ('{"a":' * 10_000 + "1" + "}" * 10_000, "nested too deeply"),
        ("1" + "0" * 400, "1000.*… is no finite number"),
        ("1" + "0" * 5000, "1000.*… is no finite number"),
        ("1e999", "1e999 is no finite number"),
        ("[Infinity]", "Infinity is no finite number"),
        ("-Infinity", "-Infinity is no finite number"),
        ("NaN", "NaN is no finite number"),
    ],
)
def test_everything_else_is_a_value_error_of_one_line(content, reason):
    with pytest.raises(ValueError, match=reason) as refused:
        parse_json(content)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200


def test_numbers_that_were_read_are_finite():
    assert math.isfinite(float(parse_json("9" * 308)))
