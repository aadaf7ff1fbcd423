"""A sample of records held against R4."""

from features.records.validation import judge_sample
from features.sources.folder import example_patients


def test_the_example_patients_keep_to_r4():
    sample = judge_sample(example_patients())
    assert sample.judged > 50
    assert sample.broken == 0


def test_a_broken_rule_is_named_without_the_record(tmp_path):
    (tmp_path / "Observation.ndjson").write_text(
        '{"resourceType":"Observation","id":"a","status":"final","Quillfeather":1}\n'
        '{"resourceType":"Observation","id":"b","status":"final","code":{"text":"Quillfeather"}}\n'
    )
    sample = judge_sample(tmp_path)
    assert (sample.judged, sample.broken) == (2, 1)
    assert dict(sample.rules) == {"Observation.code: missing": 1, "Observation.unexpected element": 1}
    assert "Quillfeather" not in str(sample)
