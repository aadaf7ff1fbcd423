import polars as pl
import pytest

from models.reason_words import feature_label, token_name

NAMES = {
    "LOINC//72166-2": "Smoking status",
    "LOINC//5767-9": "Appearance of urine",
    "SNOMED//167248002": "Cloudy (finding)",
    "SNOMED//444814009": "Viral sinusitis (disorder)",
}


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("LOINC//72166-2=SNOMED//8517006", "Smoking status: former smoker"),
        ("LOINC//5767-9=SNOMED//167248002", "Appearance of urine: Cloudy"),
        ("LOINC//5767-9=SNOMED//7766007", "Appearance of urine: 7766007"),  # no wording is known
        ("LOINC//76690-7=heterosexual", "LOINC//76690-7: heterosexual"),
        ("SNOMED//(other)", "A less common condition or procedure"),
        ("ENCOUNTER//(other)", "A less common ENCOUNTER code"),
        ("SNOMED//444814009", "Viral sinusitis"),
        ("STATE//type_2_diabetes", "Before the look-back: type 2 diabetes"),
        ("SEX//female", "Sex: female"),
        ("ENCOUNTER//IMP//end", "Hospital stay (end)"),
        ("CVX//140", "CVX//140"),
    ],
)
def test_tokens_in_words(token, words):
    assert token_name(token, NAMES) == words


AGE = "Age at the prediction time, 90 and above as 90"
STAYS = "Length of the inpatient stays that ended in the last 365 days, together"
KNOWN = "Hypertension: years since its first record; empty when never known"
SINCE = "Days since the end of the last visit at least a day ago; empty when none in 730 days"


@pytest.mark.parametrize(
    ("description", "statistic", "unit", "value", "label"),
    [
        (AGE, "age", "a", 57.4, "Age 55 to 59 years"),
        (AGE, "age", "a", 90.0, "Age 90 years or more"),
        (AGE, "age", "a", float("nan"), "Age: not recorded"),
        ("1 female, 0 male or other; empty when not recorded", "is_female", None, 1.0, "Female: yes"),
        ("Chronic pain: ever known", "is_present", None, 0.0, "Chronic pain, ever known: no"),
        ("Acute sinusitis (disorder): records in the last 730 days", "count", None, 2.0,
         "Acute sinusitis, records in 2 years: 2"),
        ("Pain [Score]: highest value in the last 180 days", "maximum", "{score}", 3.0,
         "Pain, highest value in 6 months: 3"),
        ("Chloride: latest value in the last 730 days", "last", "mmol/L", None,
         "Chloride, latest value in 2 years: not recorded"),
        (SINCE, "days_since_previous", "d", 200.0, "Time since the last visit: six months to a year"),
        (KNOWN, "years_since_first", "a", 6.789, "Hypertension, years since its first record: five to ten"),
        (KNOWN, "years_since_first", "a", None, "Hypertension, years since its first record: not recorded"),
        ("Statins: taken now; that is, ordered in the last 365 days", "is_present", None, 1.0,
         "Statins, taken now: yes"),
        (STAYS, "sum_of_stays", "d", 0.0, "Length of the inpatient stays that ended in 1 year, together: none"),
    ],
)  # fmt: skip
def test_features_in_words(description, statistic, unit, value, label):
    row = pl.DataFrame(
        {"feature": ["x"], "description": [description], "statistic": [statistic], "unit": [unit], "value": [value]},
        schema_overrides={"unit": pl.String, "value": pl.Float64},
    )
    assert row.select(feature_label()).item() == label
