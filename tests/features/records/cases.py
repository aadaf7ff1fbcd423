"""Odd records, one oddity each, with what should become of them in the comment above.

Every case has a patient of its own, `<case>`, born 1950-03-04 at no particular time, and a visit `<case>-visit`
from 2015-06-01 09:00 to 2015-06-03 12:00 UTC. `{case}` is replaced by the case's name.
"""

PATIENT = '{"resourceType":"Patient","id":"{case}","gender":"female","birthDate":"1950-03-04"}'
VISIT = (
    '{"resourceType":"Encounter","id":"{case}-visit","status":"finished","class":{"code":"AMB"},'
    '"subject":{"reference":"Patient/{case}"},'
    '"period":{"start":"2015-06-01T09:00:00Z","end":"2015-06-03T12:00:00Z"}}'
)
_LINKS = '"subject":{"reference":"Patient/{case}"},"encounter":{"reference":"Encounter/{case}-visit"}'
_SNOMED = '"code":{"coding":[{"system":"http://snomed.info/sct","code":"38341003","display":"Hypertension"}]}'
_AT = '"effectiveDateTime":"2015-06-02T08:00:00Z","issued":"2015-06-02T10:00:00Z"'


def _result(code: str, value: str, links: str = _LINKS, at: str = _AT, extra: str = '"status":"final"') -> str:
    coding = f'"code":{{"coding":[{{"system":"http://loinc.org","code":"{code}"}}]}}'
    return f'{{"resourceType":"Observation","id":"{{case}}-1",{extra},{links},{at},{coding},{value}}}'


def _quantity(value: str, unit: str | None) -> str:
    return f'"valueQuantity":{{"value":{value}' + (f',"unit":"{unit}"}}' if unit else "}")


def _condition(rest: str, links: str = _LINKS) -> str:
    return f'{{"resourceType":"Condition","id":"{{case}}-1",{links},{_SNOMED}{rest}}}'


# Dates ---------------------------------------------------------------------------------------------------------------

# time = the visit's start, 06-01 09:00; known = the visit's end, 06-03 12:00.
CONDITION_WITHOUT_DATES = [_condition("")]
# No date and no visit to take one from: ignored, "no date, and no visit to take one from".
CONDITION_WITHOUT_DATES_OR_VISIT = [_condition("", links='"subject":{"reference":"Patient/{case}"}')]
# time = onset; known = the visit's end, for nobody says when it was written down.
CONDITION_WITH_ONSET_ALONE = [_condition(',"onsetDateTime":"2015-06-02T08:00:00Z"')]
# Recorded before it began: known when it began.
CONDITION_RECORDED_TOO_EARLY = [
    _condition(',"onsetDateTime":"2015-06-02T08:00:00Z","recordedDate":"2015-06-01T10:00:00Z"')
]
# A day stands for all its moments: time = its first, known = its last minute (23:59).
CONDITION_RECORDED_ON_A_DAY = [_condition(',"onsetDateTime":"2015-06-02","recordedDate":"2015-06-02"')]
# Taken 06-02 08:00, issued 06-05 10:00: time = the first, known = the second.
RESULT_ISSUED_LATER = [
    _result(
        "4548-4",
        _quantity("6.1", "%"),
        at='"effectiveDateTime":"2015-06-02T08:00:00Z","issued":"2015-06-05T10:00:00Z"',
    )
]
# Abatement was learnt later: it is not read, so the same one event as without it.
CONDITION_THAT_ENDED = [
    _condition(
        ',"onsetDateTime":"2015-06-02T08:00:00Z","recordedDate":"2015-06-02T08:00:00Z",'
        '"abatementDateTime":"2015-08-01T08:00:00Z","clinicalStatus":{"coding":[{"code":"resolved"}]}'
    )
]
# A year before birth: ignored, "before birth".
BEFORE_BIRTH = [_condition(',"onsetDateTime":"1949-03-04T08:00:00Z","recordedDate":"1949-03-04T08:00:00Z"')]
# All addresses have ended (see PATIENTS): moved away at the last of those ends, 2015-06-20 08:00. Later records count.
MOVED_AWAY = [_condition(',"onsetDateTime":"2015-06-20T09:00:00Z","recordedDate":"2015-06-20T09:00:00Z"')]
# One address has ended and another has not: still here.
MOVED_WITHIN_REACH = []
# The only address ended before the visit: still comes.
MOVED_BUT_COMES = []
# Addresses that end when the source has long ended, at an impossible moment, or are none: still here, all of them.
# The first has a visit in September, the last of the source.
MOVES_LATER = [
    VISIT.replace("{case}-visit", "{case}-visit-2")
    .replace("2015-06-01T09", "2015-09-01T09")
    .replace("2015-06-03T12", "2015-09-01T12")
]
MOVES_NEVER = []
ODD_ADDRESS = []
# Ten days after death: ignored, "after death". (This patient has a date of death; see PATIENTS.)
AFTER_DEATH = [_condition(',"onsetDateTime":"2015-06-20T08:00:00Z","recordedDate":"2015-06-20T08:00:00Z"')]
# The certificate and its visit: ignored, "records a death after the fact", though dated before death.
DEATH_CERTIFICATE = [
    _result("69453-9", '"valueCodeableConcept":{"coding":[{"system":"http://snomed.info/sct","code":"22298006"}]}')
]
# An outpatient visit of twelve years: its start is kept, its end is not believed.
ABSURD_VISIT = [
    '{"resourceType":"Encounter","id":"{case}-1","status":"finished","class":{"code":"AMB"},'
    '"subject":{"reference":"Patient/{case}"},'
    '"period":{"start":"2002-06-01T09:00:00Z","end":"2014-06-01T09:00:00Z"}}'
]
# A hospital stay of 40 days is long, not absurd: both ends.
LONG_STAY = [
    '{"resourceType":"Encounter","id":"{case}-1","status":"finished","class":{"code":"IMP"},'
    '"subject":{"reference":"Patient/{case}"},'
    '"period":{"start":"2014-06-01T09:00:00Z","end":"2014-07-11T09:00:00Z"}}'
]

# Versions and status -------------------------------------------------------------------------------------------------

# Version 2 holds (7.1 %), though version 1 comes later in the file: ignored once, "older version or copy …".
OLDER_VERSION = [
    _result("4548-4", _quantity("7.1", "%"), extra='"meta":{"versionId":"2"},"status":"corrected"'),
    _result("4548-4", _quantity("9.9", "%"), extra='"meta":{"versionId":"1"},"status":"final"'),
]
# Withdrawn by a newer version: no event; two records ignored.
WITHDRAWN = [
    _result("4548-4", _quantity("7.1", "%"), extra='"meta":{"versionId":"1"},"status":"final"'),
    _result("4548-4", _quantity("7.1", "%"), extra='"meta":{"versionId":"2"},"status":"entered-in-error"'),
]
# Entered in error from the start: ignored, "entered in error".
ENTERED_IN_ERROR = [_result("4548-4", _quantity("7.1", "%"), extra='"status":"entered-in-error"')]
# Considered and ruled out: ignored, "not done".
REFUTED = [_condition(',"verificationStatus":{"coding":[{"code":"refuted"}]}')]
# The very same record twice: one event, the copy ignored.
SAME_RECORD_TWICE = [_condition(',"recordedDate":"2015-06-02T08:00:00Z"')] * 2

# Values --------------------------------------------------------------------------------------------------------------

# Two events, 128 and 82 mm[Hg]; the unit's spelling is put right.
PANEL = [
    _result(
        "85354-9",
        '"component":[{"code":{"coding":[{"system":"http://loinc.org","code":"8480-6"}]},'
        '"valueQuantity":{"value":128.4,"unit":"mmHg"}},'
        '{"code":{"coding":[{"system":"http://loinc.org","code":"8462-4"}]},'
        '"valueQuantity":{"value":81.7,"unit":"mmHg"}}]',
    )
]
# One of two components has a value: one event; the other is counted.
COMPONENT_WITHOUT_VALUE = [
    _result(
        "85354-9",
        '"component":[{"code":{"coding":[{"system":"http://loinc.org","code":"8480-6"}]},'
        '"valueQuantity":{"value":128}},'
        '{"code":{"coding":[{"system":"http://loinc.org","code":"8462-4"}]}}]',
    )
]
# 5 ft 11 in is 71 in = 180.3 cm.
OTHER_UNIT = [_result("8302-2", _quantity("71", "[in_i]"))]
# 1.76 cannot be cm; of the units that height comes in, only m fits: 176 cm.
WRONG_UNIT = [_result("8302-2", _quantity("1.76", "cm"))]
# No unit, plausible in the usual one: 6.1 %.
MISSING_UNIT = [_result("4548-4", _quantity("6.1", None))]
# An HbA1c of 300 % cannot be, in any unit listed: the event stays, without a value.
IMPLAUSIBLE = [_result("4548-4", _quantity("300", "%"))]
# A fingerprint of thirteen digits: rounded to one decimal, 176.4 cm.
MANY_DIGITS = [_result("8302-2", _quantity("176.35499866729558", "cm"))]
# The coded answer, as SNOMED//266919005.
CODED_ANSWER = [
    _result("72166-2", '"valueCodeableConcept":{"coding":[{"system":"http://snomed.info/sct","code":"266919005"}]}')
]
# "true".
BOOLEAN_ANSWER = [_result("95419-8", '"valueBoolean":true')]
# 14.
INTEGER_ANSWER = [_result("44261-6", '"valueInteger":14')]
# On the list of answers in privacy/rules.toml.
LISTED_ANSWER = [_result("71802-3", '"valueString":"Patient is homeless"')]
# Not on it: ignored, "free text".
FREE_TEXT = [_result("71802-3", '"valueString":"lives with her sister"')]
# Nothing was measured: ignored, "no value".
NO_VALUE = [_result("4548-4", '"dataAbsentReason":{"text":"sample lost"}')]
# Two wordings of one code: one code, the commonest wording shown, `wordings` 2.
TWO_WORDINGS = [
    '{"resourceType":"Condition","id":"{case}-1","subject":{"reference":"Patient/{case}"},'
    '"recordedDate":"2015-06-02T08:00:00Z",'
    '"code":{"coding":[{"system":"http://snomed.info/sct","code":"10509002","display":"Acute bronchitis"}]}}',
    '{"resourceType":"Condition","id":"{case}-2","subject":{"reference":"Patient/{case}"},'
    '"recordedDate":"2015-06-03T08:00:00Z","code":{"coding":[{"system":"http://snomed.info/sct",'
    '"code":"10509002","display":"Acute bronchitis (disorder)"}]}}',
]
# A house's own code leaves as a pseudonym (LOCAL_…), one event.
LOCAL_CODE = [
    '{"resourceType":"Condition","id":"{case}-1","subject":{"reference":"Patient/{case}"},'
    '"recordedDate":"2015-06-02T08:00:00Z",'
    '"code":{"coding":[{"system":"http://hospital.example.org/codes","code":"HT7"}]}}'
]

# The STU3-like dialect -----------------------------------------------------------------------------------------------

# Class WELLNESS is AMB; `reason` is read as reasonCode.
DIALECT_VISIT = [
    '{"resourceType":"Encounter","id":"{case}-1","status":"finished","class":{"code":"WELLNESS"},'
    '"subject":{"reference":"Patient/{case}"},"reason":[{"coding":[{"system":"http://snomed.info/sct",'
    '"code":"444814009"}]}],"period":{"start":"2014-06-01T05:00:00-04:00","end":"2014-06-01T05:15:00-04:00"}}'
]
# `context`, `assertedDate` and plain-string statuses: the same event as in R4.
DIALECT_CONDITION = [
    '{"resourceType":"Condition","id":"{case}-1","clinicalStatus":"active","verificationStatus":"confirmed",'
    '"subject":{"reference":"Patient/{case}"},"context":{"reference":"Encounter/{case}-visit"},'
    f'{_SNOMED},"onsetDateTime":"2015-06-02T04:00:00-04:00","assertedDate":"2015-06-02T06:00:00-04:00"}}'
]
# `date` is read as occurrenceDateTime.
DIALECT_VACCINATION = [
    '{"resourceType":"Immunization","id":"{case}-1","status":"completed",'
    '"patient":{"reference":"Patient/{case}"},"date":"2015-06-02T04:00:00-04:00",'
    '"vaccineCode":{"coding":[{"system":"http://hl7.org/fhir/sid/cvx","code":"140"}]}}'
]

# References ----------------------------------------------------------------------------------------------------------

_DATED = ',"recordedDate":"2015-06-02T08:00:00Z"'
# All of these find the patient `<case>`, the last by the identifier that PATIENTS gives.
REFERENCE_BY_URL = [_condition(_DATED, '"subject":{"reference":"https://fhir.example.org/r4/Patient/{case}"}')]
REFERENCE_TO_A_VERSION = [_condition(_DATED, '"subject":{"reference":"Patient/{case}/_history/3"}')]
REFERENCE_BY_URN = [_condition(_DATED, '"subject":{"reference":"urn:uuid:{case}"}')]
REFERENCE_BY_IDENTIFIER = [_condition(_DATED, '"subject":{"reference":"Patient?identifier=urn:mrn|77"}')]
# The patient is not in the folder: ignored, "its patient is not among the records".
REFERENCE_TO_NOBODY = [_condition(_DATED, '"subject":{"reference":"Patient/nobody"}')]
# A medicine carried inside the record: RXNORM//314076.
MEDICINE_INSIDE = [
    '{"resourceType":"MedicationRequest","id":"{case}-1","status":"stopped","intent":"order",'
    '"contained":[{"resourceType":"Medication","id":"m","code":{"coding":[{"system":'
    '"http://www.nlm.nih.gov/research/umls/rxnorm","code":"314076"}]}}],"medicationReference":{"reference":"#m"},'
    f'{_LINKS},"authoredOn":"2015-06-02T08:00:00Z"}}'
]
# A medicine in a record of its own: RXNORM//860975; the Medication itself is ignored, its code is used.
MEDICINE_BESIDE = [
    '{"resourceType":"MedicationRequest","id":"{case}-1","status":"active","intent":"order",'
    '"medicationReference":{"reference":"Medication/{case}-medicine"},'
    f'{_LINKS},"authoredOn":"2015-06-02T08:00:00Z"}}',
    '{"resourceType":"Medication","id":"{case}-medicine","code":{"coding":[{"system":'
    '"http://www.nlm.nih.gov/research/umls/rxnorm","code":"860975"}]}}',
]
# A medicine that is nowhere: ignored, "refers to a medicine that is not among the records".
MEDICINE_MISSING = [
    '{"resourceType":"MedicationRequest","id":"{case}-1","status":"active","intent":"order",'
    '"medicationReference":{"reference":"Medication/none"},'
    f'{_LINKS},"authoredOn":"2015-06-02T08:00:00Z"}}'
]

# Patients that differ from PATIENT.
_FORMER = '"line":["1 Lane"],"period":{"start":"2001-01-01","end":"2015-06-'
PATIENTS = {
    "MOVED_AWAY": PATIENT.removesuffix("}") + f',"address":[{{{_FORMER}20T08:00:00Z"}}}},{{{_FORMER}10"}}}}]}}',
    "MOVED_WITHIN_REACH": PATIENT.removesuffix("}") + f',"address":[{{"city":"Here"}},{{{_FORMER}10"}}}}]}}',
    "MOVED_BUT_COMES": PATIENT.removesuffix("}") + ',"address":[{"period":{"end":"2015-05-01"}}]}',
    "MOVES_LATER": PATIENT.removesuffix("}") + ',"address":[{"period":{"end":"2999-12-31T23:59:59Z"}}]}',
    "MOVES_NEVER": PATIENT.removesuffix("}") + ',"address":[{"period":{"end":"9999-12-31"}}]}',
    "ODD_ADDRESS": PATIENT.removesuffix("}") + ',"address":["1 Lane",null,{"period":7}]}',
    "AFTER_DEATH": PATIENT.removesuffix("}") + ',"deceasedDateTime":"2015-06-10T08:00:00Z"}',
    "REFERENCE_BY_IDENTIFIER": PATIENT.removesuffix("}") + ',"identifier":[{"system":"urn:mrn","value":"77"}]}',
}

# Records for the quarantine: (line, resource type told, words of the reason). No patient needed.
QUARANTINED = {
    "cut short": ('{"resourceType":"Condition","id":"q1","code":{"tex', "Condition", "malformed JSON: ends too early"),
    "no JSON": ("<Patient/>", None, "malformed JSON"),
    "unknown type": ('{"resourceType":"Spaceship","id":"q3"}', None, "unknown resource type"),
    "no type": ('{"id":"q4"}', None, "no resource type"),
    "wrong type of value": (
        '{"resourceType":"Patient","id":"q5","birthDate":1950}',
        "Patient",
        "wrong type of value",
    ),
    "no subject": ('{"resourceType":"Condition","id":"q6"}', "Condition", "no subject"),
    "no id": ('{"resourceType":"Patient","gender":"male"}', "Patient", "no id"),
    "no date": (
        '{"resourceType":"Patient","id":"q8","birthDate":"in spring"}',
        "Patient",
        "a date that is not a FHIR date",
    ),
    "subject is a group": (
        '{"resourceType":"Condition","id":"q9","subject":{"reference":"Group/1"}}',
        "Condition",
        "subject is not a patient",
    ),
    "identifier of nobody": (
        '{"resourceType":"Condition","id":"q10","subject":{"reference":"Patient?identifier=urn:mrn|none"}}',
        "Condition",
        "subject named by an identifier",
    ),
}
