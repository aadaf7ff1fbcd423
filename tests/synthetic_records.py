"""What records can tests learn from? A seeded little population, written as FHIR R4 NDJSON in Synthea's shape.

One person's record depends on the seed and the person's number alone, so a larger population holds the smaller
one unchanged. What can be learnt is planted plainly: the last BNP of a person with heart failure drives emergency
visits, admissions and death; HbA1c and its slope drive diabetes; blood pressure and cholesterol the rest.
"""

import random
from datetime import UTC, date, datetime, time, timedelta
from math import exp, log
from pathlib import Path

import orjson

from tests.fhir_resources import (
    CVX,
    LOINC,
    RXNORM,
    SITES,
    SNOMED,
    UCUM,
    Json,
    concept,
    condition,
    encounter,
    linked,
    new_id,
    observation,
    patient,
    site,
    text,
)

DATA_END = date(2024, 6, 30)
MONTH = timedelta(days=30.4375)

HEART_FAILURE = ("88805009", "Chronic congestive heart failure (disorder)")
COPD = ("13645005", "Chronic obstructive lung disease (disorder)")
DIABETES = ("44054006", "Diabetes mellitus type 2 (disorder)")
PREDIABETES = ("15777000", "Prediabetes (finding)")
HYPERTENSION = ("38341003", "Hypertensive disorder, systemic arterial (disorder)")
HYPERLIPIDAEMIA = ("55822004", "Hyperlipidemia (disorder)")
KIDNEY_DISEASE = ("431857002", "Chronic kidney disease stage 4 (disorder)")
PRESCRIPTIONS = {
    HEART_FAILURE: ("313988", "Furosemide 40 MG Oral Tablet"),
    DIABETES: ("860975", "24 HR Metformin hydrochloride 500 MG Extended Release Oral Tablet"),
    HYPERTENSION: ("314076", "lisinopril 10 MG Oral Tablet"),
    HYPERLIPIDAEMIA: ("314231", "Simvastatin 10 MG Oral Tablet"),
}
SMALL_ILLS = (
    ("444814009", "Viral sinusitis (disorder)"),
    ("195662009", "Acute viral pharyngitis (disorder)"),
    ("10509002", "Acute bronchitis (disorder)"),
    ("44465007", "Sprain of ankle (disorder)"),
)


def write_records(folder: Path, patients: int, seed: int, as_synthea: bool = False) -> None:
    """Write `patients` records as `<folder>/<ResourceType>.ndjson`, one resource a line.

    Records run from 2010-2013 (or birth) to 2024-06-30 or death. `as_synthea` adds Synthea's identifier system,
    by which the ingest knows that Synthea made the records.
    """
    folder.mkdir(parents=True, exist_ok=True)
    resources = [site(number) for number in range(len(SITES))]
    for number in range(patients):
        resources += person(number, seed, as_synthea)
    lines: dict[str, list[bytes]] = {}
    for resource in resources:
        lines.setdefault(str(resource["resourceType"]), []).append(orjson.dumps(resource))
    for resource_type, of_type in lines.items():
        (folder / f"{resource_type}.ndjson").write_bytes(b"\n".join(of_type) + b"\n")


def person(number: int, seed: int, as_synthea: bool = False) -> list[Json]:
    """One person's whole record, the Patient resource first."""
    draw = random.Random(f"{seed}/{number}")
    patient_id = new_id(draw)
    is_female = draw.random() < 0.5
    age_at_start = draw.uniform(1, 17) if draw.random() < 0.06 else draw.uniform(32, 84)
    now = datetime(2010, 1, 1, tzinfo=UTC) + timedelta(days=draw.randrange(1_400))
    birth = (now - timedelta(days=365.25 * age_at_start)).date()
    clock = time(draw.randrange(8, 17), draw.randrange(60), draw.randrange(60))  # constant, as in Synthea
    now = datetime.combine(now.date(), clock, UTC)

    months = int((datetime.combine(DATA_END, time.max, UTC) - now) / MONTH)
    is_adult = age_at_start > 30
    failure_month = draw.randrange(-60, months) if is_adult and draw.random() < 0.34 else None
    lung_month = draw.randrange(-120, months) if is_adult and draw.random() < 0.12 else None
    bnp = exp(draw.gauss(log(600), 0.8))  # pg/mL
    hba1c, hba1c_per_year = draw.gauss(5.4, 0.25), 0.0
    if is_adult and draw.random() < 0.38:
        hba1c, hba1c_per_year = draw.gauss(5.7, 0.3), draw.uniform(0.03, 0.2)
    systolic, systolic_per_year = draw.gauss(122, 9), draw.uniform(-0.3, 2.2)
    cholesterol, cholesterol_per_year = draw.gauss(180, 20), draw.uniform(-1, 5)
    creatinine, creatinine_per_year = draw.gauss(0.9, 0.12), max(0.0, draw.gauss(0.0, 0.06))
    weight, height = draw.gauss(78, 12), draw.gauss(165 if is_female else 178, 6)
    if not is_adult:
        weight, height = 6 + 2.8 * age_at_start, 78 + 6 * age_at_start

    record: list[Json] = []
    diagnosed: set[tuple[str, str]] = set()
    next_check = draw.randrange(0, 12)
    death: datetime | None = None
    for month in range(months + 1):
        at = _day_at(now + month * MONTH + timedelta(days=draw.randrange(0, 18)), clock)
        age = (at.date() - birth).days / 365.25
        years = month / 12
        bnp = min(max(bnp * exp(draw.gauss(0.004, 0.06)), 60), 9_000)
        has_failure = failure_month is not None and month >= failure_month
        has_lung_disease = lung_month is not None and month >= lung_month
        burden = (1 + log(bnp / 300) if has_failure else 0) + (1.0 if has_lung_disease else 0)

        if at.date() > DATA_END - timedelta(days=30):
            break
        if draw.random() < _deaths_per_year(age, burden) / 12:
            death = at
            if draw.random() < 0.5:
                record += _acute_visit(draw, patient_id, at, has_failure, is_last=True)
            break
        if draw.random() < _acute_visits_per_year(age, burden) / 12:
            record += _acute_visit(draw, patient_id, at, has_failure, is_last=False)
        elif draw.random() < 0.6 / 12:
            record += _small_visit(draw, patient_id, at)
        if month < next_check:
            continue

        next_check = month + (draw.randrange(4, 8) if has_failure or DIABETES in diagnosed else draw.randrange(11, 14))
        at = at + timedelta(days=10)  # after any stay
        values = {
            "8302-2": ("Body Height", height + (0 if is_adult else 5 * years), "cm"),
            "29463-7": ("Body Weight", weight + draw.gauss(0.2 * years, 1.2), "kg"),
            "4548-4": (
                "Hemoglobin A1c/Hemoglobin.total in Blood",
                hba1c + hba1c_per_year * years + draw.gauss(0, 0.08),
                "%",
            ),
            "2093-3": (
                "Total Cholesterol",
                cholesterol + cholesterol_per_year * years + draw.gauss(0, 7),
                "mg/dL",
            ),
            "38483-4": ("Creatinine", creatinine + creatinine_per_year * years + draw.gauss(0, 0.06), "mg/dL"),
        }
        if has_failure:
            values["33762-6"] = ("Natriuretic peptide.B prohormone N-Terminal", bnp, "pg/mL")
        pressure = systolic + systolic_per_year * years + draw.gauss(0, 5)
        found = [
            (HEART_FAILURE, has_failure),
            (COPD, has_lung_disease),
            (DIABETES, values["4548-4"][1] >= 6.5),
            (PREDIABETES, values["4548-4"][1] >= 5.8),
            (HYPERTENSION, pressure >= 142),
            (HYPERLIPIDAEMIA, values["2093-3"][1] >= 232),
            (KIDNEY_DISEASE, values["38483-4"][1] >= 2.0),
        ]
        new = [diagnosis for diagnosis, is_found in found if is_found and diagnosis not in diagnosed]
        diagnosed.update(new)
        smokes = is_adult and (has_lung_disease or patient_id < "4")
        record += _check_up(
            draw, patient_id, at=at, values=values, systolic=pressure, new_conditions=new, smokes=smokes
        )

    who = patient(
        draw,
        patient_id,
        number=number,
        is_female=is_female,
        birth=birth,
        death=death,
        as_synthea=as_synthea,
    )
    return [who, *record]


def _acute_visits_per_year(age: float, burden: float) -> float:
    return min(0.05 + 0.001 * max(age - 50, 0) + (0.10 * exp(1.15 * burden) if burden else 0), 4.0)


def _deaths_per_year(age: float, burden: float) -> float:
    return 0.0015 * exp(0.09 * max(age - 60, 0)) + (0.006 * exp(1.1 * burden) if burden else 0)


def _check_up(
    draw: random.Random,
    patient_id: str,
    *,
    at: datetime,
    values: dict[str, tuple[str, float, str]],
    systolic: float,
    new_conditions: list[tuple[str, str]],
    smokes: bool,
) -> list[Json]:
    visit = encounter(
        draw,
        patient_id,
        start=at,
        end=at + timedelta(minutes=30),
        kind="AMB",
        reason=("185349003", "Encounter for check up"),
    )
    visit_id = str(visit["id"])
    record = [visit]
    for code, (display, value, unit) in values.items():
        record.append(
            observation(draw, patient_id, visit_id, at=at, code=code, display=display)
            | {"valueQuantity": {"value": round(value, 2), "unit": unit, "system": UCUM, "code": unit}}
        )
    parts = [
        ("8462-4", "Diastolic Blood Pressure", systolic * 0.62),
        ("8480-6", "Systolic Blood Pressure", systolic),
    ]
    record.append(
        observation(draw, patient_id, visit_id, at=at, code="85354-9", display="Blood Pressure")
        | {
            "component": [
                {
                    "code": concept(LOINC, code, display),
                    "valueQuantity": {"value": round(value), "unit": "mm[Hg]", "system": UCUM, "code": "mm[Hg]"},
                }
                for code, display, value in parts
            ]
        }
    )
    answer = ("449868002", "Smokes tobacco daily") if smokes else ("266919005", "Never smoked tobacco")
    record.append(
        observation(draw, patient_id, visit_id, at=at, code="72166-2", display="Tobacco smoking status NHIS")
        | {"valueCodeableConcept": concept(SNOMED, *answer)}
    )
    record.append(
        linked(draw, "DiagnosticReport", patient_id, visit_id)
        | {
            "status": "final",
            "code": concept(LOINC, "51990-0", "Basic Metabolic Panel"),
            "effectiveDateTime": text(at),
            "issued": text(at),
        }
    )
    for diagnosis in new_conditions:
        record.append(condition(draw, patient_id, visit_id, code=diagnosis, onset=at, recorded=at))
        if diagnosis in PRESCRIPTIONS:
            record.append(
                linked(draw, "MedicationRequest", patient_id, visit_id)
                | {
                    "status": "active",
                    "intent": "order",
                    "medicationCodeableConcept": concept(RXNORM, *PRESCRIPTIONS[diagnosis]),
                    "authoredOn": text(at),
                }
            )
        if diagnosis == DIABETES:
            record.append(
                linked(draw, "CarePlan", patient_id, visit_id)
                | {
                    "status": "active",
                    "intent": "order",
                    "category": [concept(SNOMED, "698360004", "Diabetes self management plan")],
                    "period": {"start": text(at)},
                }
            )
    if draw.random() < 0.5:
        shot = linked(draw, "Immunization", patient_id, visit_id)
        shot["patient"] = shot.pop("subject")
        vaccine = concept(CVX, "140", "Influenza, seasonal, injectable, preservative free")
        record.append(shot | {"status": "completed", "vaccineCode": vaccine, "occurrenceDateTime": text(at)})
    return record


def _small_visit(draw: random.Random, patient_id: str, at: datetime) -> list[Json]:
    visit = encounter(
        draw,
        patient_id,
        start=at,
        end=at + timedelta(minutes=15),
        kind="AMB",
        reason=("185345009", "Encounter for symptom"),
    )
    ill = SMALL_ILLS[draw.randrange(len(SMALL_ILLS))]
    gone = at + timedelta(days=14)
    return [
        visit,
        condition(draw, patient_id, str(visit["id"]), code=ill, onset=at, recorded=at)
        | {"abatementDateTime": text(gone)},
    ]


def _acute_visit(draw: random.Random, patient_id: str, at: datetime, has_failure: bool, is_last: bool) -> list[Json]:
    is_stay = draw.random() < (0.55 if has_failure else 0.30)
    end = at + (timedelta(days=draw.randrange(1, 9)) if is_stay else timedelta(hours=draw.randrange(1, 6)))
    if is_last:
        end = at  # a record's last visit ends with the person
    if is_stay:
        visit = encounter(draw, patient_id, start=at, end=end, kind="IMP", reason=("183452005", "Encounter Inpatient"))
        home = {"system": "http://www.nubc.org/patient-discharge", "code": "01", "display": "Discharged to home"}
        visit |= {"hospitalization": {"dischargeDisposition": {"coding": [home]}}}
    else:
        visit = encounter(
            draw, patient_id, start=at, end=end, kind="EMER", reason=("50849002", "Emergency Room Admission")
        )
    visit_id = str(visit["id"])
    cause = ("195111005", "Decompensated cardiac failure (disorder)") if has_failure else SMALL_ILLS[2]
    record = [visit, condition(draw, patient_id, visit_id, code=cause, onset=at, recorded=end)]
    if is_stay:
        record.append(
            linked(draw, "Procedure", patient_id, visit_id)
            | {
                "status": "completed",
                "code": concept(SNOMED, "399208008", "Plain chest X-ray"),
                "performedPeriod": {"start": text(at), "end": text(end)},
            }
        )
    return record


def _day_at(moment: datetime, clock: time) -> datetime:
    return datetime.combine(moment.date(), clock, UTC)
