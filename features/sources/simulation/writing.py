"""A block's record as FHIR R4 resources, one JSON text each, in the shape of Synthea's export and the US Core profiles.

The texts are put together from parts that are made once for each code, which is some fifty times faster than making
objects of them. That they are valid R4 is held by tests, with fhir.resources.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import date

import msgspec
import numpy as np
import numpy.typing as npt

from features.sources.simulation.record import AMBULATORY, DIED, EMERGENCY, INPATIENT, Record
from features.sources.simulation.world import World

SYSTEM = "urn:sequela:simulation"
_SNOMED, _LOINC, _UCUM = "http://snomed.info/sct", "http://loinc.org", "http://unitsofmeasure.org"
_HL7 = "http://terminology.hl7.org/CodeSystem"
_US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition"
_KINDS = [
    "Patient",
    "Encounter",
    "Observation",
    "Condition",
    "MedicationRequest",
    "Procedure",
    "Immunization",
    "DiagnosticReport",
]
_PASSING_DAYS = 60  # after which an acute illness is written off
_DOCTORS_A_SITE = 6
_DISPOSITIONS = [("01", "Discharged to home care or self care (routine discharge)"), ("03", "Discharged to skilled nursing facility (SNF)"), ("06", "Discharged to home under care of organized home health service"), ("20", "Expired")]  # fmt: skip
_VISIT_TYPES = [("390906007", "Follow-up encounter (procedure)"), ("185349003", "Encounter for check up (procedure)"), ("185345009", "Encounter for symptom (procedure)"), ("162673000", "General examination of patient (procedure)")]  # fmt: skip
_SMOKING = [("266919005", "Never smoked tobacco (finding)"), ("8517006", "Ex-smoker (finding)"), ("449868002", "Smokes tobacco daily (finding)")]  # fmt: skip
_REFERENCE = re.compile(r'"reference":"[A-Za-z]+/')


@dataclass(frozen=True)
class Person:
    """What a Patient resource says of one person; `uuid` begins all ids of the person's resources."""

    number: int
    uuid: str
    born: date
    is_male: bool
    race: str
    is_hispanic: bool
    site: int
    died: str | None


@dataclass(frozen=True)
class Texts:
    """Resources of one type: their JSON, and the number of the person each belongs to."""

    persons: npt.NDArray[np.int64]
    lines: list[str]


def write_block(world: World, record: Record, people: dict[int, Person], until_minutes: int) -> dict[str, Texts]:
    """All resources of a block by type. What is known only after `until_minutes` does not exist yet."""
    return _Writer(world, record, people, until_minutes).all()


def shared_resources(world: World) -> dict[str, list[str]]:
    """The Organization and Practitioner resources, which belong to no patient."""
    organizations, practitioners = [], []
    for number, site in enumerate(world.raw["care"]["sites"]):
        kind = _concept(f"{_HL7}/organization-type", "prov", "Healthcare Provider")
        address = [
            {
                "line": ["1 Simulation Way"],
                "city": site["city"],
                "state": "MA",
                "postalCode": f"0{1000 + number}",
                "country": "US",
            }
        ]
        organizations.append(_json({"resourceType": "Organization", "id": site_id(number), "meta": _meta("organization"), "identifier": [{"system": SYSTEM, "value": f"site-{number}"}], "active": True, "type": [kind], "name": site["name"], "telecom": [{"system": "phone", "value": "555-0100"}], "address": address}))  # fmt: skip
        practitioners += [
            _json(
                {
                    "resourceType": "Practitioner",
                    "id": doctor_id(number, doctor),
                    "meta": _meta("practitioner"),
                    "identifier": [{"system": SYSTEM, "value": f"practitioner-{number}-{doctor}"}],
                    "active": True,
                    "name": [{"family": f"Simulated-{number}-{doctor}", "given": ["Clinician"], "prefix": ["Dr."]}],
                }
            )  # fmt: skip
            for doctor in range(_DOCTORS_A_SITE)
        ]
    return {"Organization": organizations, "Practitioner": practitioners}


def site_id(site: int) -> str:
    """The id of a hospital's Organization."""
    return _uuid(f"organization {site}")


def doctor_id(site: int, doctor: int) -> str:
    """The id of a Practitioner."""
    return _uuid(f"practitioner {site} {doctor}")


def bundle_of(lines: list[tuple[str, str]]) -> str:
    """A transaction Bundle of (type, JSON) resources, which refer to each other by urn:uuid."""
    entries = []
    for kind, line in lines:
        identity = line[line.index('"id":"') + 6 :].split('"', 1)[0]
        line = _REFERENCE.sub('"reference":"urn:uuid:', line)
        entries.append(
            f'{{"fullUrl":"urn:uuid:{identity}","resource":{line},"request":{{"method":"POST","url":"{kind}"}}}}'
        )
    return f'{{"resourceType":"Bundle","type":"transaction","entry":[{",".join(entries)}]}}'


class _Writer:
    def __init__(self, world: World, record: Record, people: dict[int, Person], until: int) -> None:
        self.world, self.people, self.until = world, people, until
        self.begin = np.datetime64(world.raw["care"]["population"]["records_begin"], "m")
        self.encounters = record.encounters.done()
        exists = np.isin(self.encounters["person"], list(people)) & (self.encounters["start"] <= until)
        self.has_encounter = exists
        self.tables = {}
        for name in ("results", "conditions", "prescriptions", "done"):
            table = getattr(record, name).done()
            known = table.get("issued", table.get("recorded", table.get("time")))
            keep = np.flatnonzero(exists[table["encounter"].astype(np.int64)] & (known <= until))
            self.tables[name] = {key: column[keep] for key, column in table.items()}
        self.site = np.zeros(max(people, default=0) + 1, np.int64)
        self.uuid = [""] * len(self.site)
        for number, person in people.items():
            self.site[number], self.uuid[number] = person.site, person.uuid

    def all(self) -> dict[str, Texts]:
        observations, reports = self._observations()
        conditions, main = self._conditions()
        return {
            "Patient": self._patients(),
            "Encounter": self._encounters(main),
            "Observation": observations,
            "Condition": conditions,
            "MedicationRequest": self._prescriptions(),
            "Procedure": self._done("procedure"),
            "Immunization": self._done("vaccine"),
            "DiagnosticReport": reports,
        }

    def _times(self, minutes: npt.NDArray) -> list[str]:
        return np.datetime_as_string(self.begin + minutes.astype("timedelta64[m]"), unit="s").tolist()

    def _id(self, kind: str, person: int, number: int) -> str:
        return f"{self.uuid[person]}{_KINDS.index(kind):x}{number:011x}"

    def _patients(self) -> Texts:
        lines = [_patient(person, self._id("Patient", number, 0)) for number, person in self.people.items()]
        return Texts(np.array(list(self.people), np.int64), lines)

    def _encounters(self, main: dict[int, str]) -> Texts:
        rows = np.flatnonzero(self.has_encounter)
        of = {key: column[rows] for key, column in self.encounters.items()}
        starts, ends = self._times(of["start"]), self._times(of["end"])
        sites = self.site[of["person"].astype(np.int64)]
        stays = [self.world.raw["stays"][name]["reason"] for name in self.world.stays]
        provider = [f'"serviceProvider":{{"reference":"Organization/{site_id(s)}","display":"{site["name"]}"}}' for s, site in enumerate(self.world.raw["care"]["sites"])]  # fmt: skip
        doctors = [[doctor_id(s, d) for d in range(_DOCTORS_A_SITE)] for s in range(len(provider))]
        kinds = [f'"class":{_json({"system": f"{_HL7}/v3-ActCode", "code": code, "display": display})}' for code, display in (("AMB", "ambulatory"), ("EMER", "emergency"), ("IMP", "inpatient encounter"))]  # fmt: skip
        priority = {flag: f'"priority":{_json(_concept(f"{_HL7}/v3-ActPriority", *(("EL", "elective") if flag else ("EM", "emergency"))))},' for flag in (True, False)}  # fmt: skip
        visit_types = [f'"type":[{_json(_concept(_SNOMED, *one))}]' for one in _VISIT_TYPES]
        types = {EMERGENCY: f'"type":[{_json(_concept(_SNOMED, "50849002", "Emergency room admission (procedure)"))}]', INPATIENT: f'"type":[{_json(_concept(_SNOMED, "32485007", "Hospital admission (procedure)"))}]'}  # fmt: skip
        leaves = [f',"hospitalization":{{"dischargeDisposition":{_json(_concept("http://www.nubc.org/patient-discharge", *one))}}}' for one in _DISPOSITIONS]  # fmt: skip
        role = _json(_concept(f"{_HL7}/diagnosis-role", "DD", "Discharge diagnosis"))
        meta, lines = _json(_meta("encounter")), []
        columns = (of[key].tolist() for key in ("person", "kind", "reason", "disposition", "is_planned", "end"))
        for row, person, kind, reason, disposition, planned, end_minute, start, end, site in zip(rows.tolist(), *columns, starts, ends, sites.tolist(), strict=True):  # fmt: skip
            is_over = end_minute <= self.until
            kind_text = types[kind] if kind != AMBULATORY else visit_types[(row * 7 + person) % len(visit_types)]
            patient = self._id("Patient", person, 0)
            text = (
                f'{{"resourceType":"Encounter","id":"{self._id("Encounter", person, row)}","meta":{meta},'
                f'"status":"{"finished" if is_over else "in-progress"}",{kinds[kind]},{kind_text},'
                f'{priority[planned] if kind == INPATIENT else ""}"subject":{{"reference":"Patient/{patient}"}},'
                f'"participant":[{{"individual":{{"reference":"Practitioner/{doctors[site][(person + kind) % _DOCTORS_A_SITE]}"}}}}],'
                f'"period":{{"start":"{start}+00:00"' + (f',"end":"{end}+00:00"}}' if is_over else "}")
            )
            if reason >= 0:
                text += f',"reasonCode":[{_json(_concept(_SNOMED, *stays[reason]))}]'
            if row in main:
                text += f',"diagnosis":[{{"condition":{{"reference":"Condition/{main[row]}"}},"use":{role}}}]'
            if kind == INPATIENT and is_over:
                text += leaves[disposition]
            lines.append(f"{text},{provider[site]}}}")
        return Texts(of["person"].astype(np.int64), lines)

    def _observations(self) -> tuple[Texts, Texts]:
        table = self.tables["results"]
        times, issued = self._times(table["time"]), self._times(table["issued"])
        person, encounter = table["person"].astype(np.int64), table["encounter"].astype(np.int64)
        ids = [self._id("Observation", p, n) for n, p in enumerate(person.tolist())]
        about = [
            f'"subject":{{"reference":"Patient/{self._id("Patient", p, 0)}"}},"encounter":{{"reference":"Encounter/{self._id("Encounter", p, e)}"}},"effectiveDateTime":"{t}+00:00","issued":"{i}.000+00:00",'
            for p, e, t, i in zip(person.tolist(), encounter.tolist(), times, issued, strict=True)
        ]
        lines = [""] * len(ids)
        spelling = np.array([site["spelling"] for site in self.world.raw["care"]["sites"]])[self.site[person]]
        for number, name in enumerate(self.world.results):
            one = self.world.raw["measurements"][name]
            for s, code in enumerate(one["codes"]):
                of = (table["result"] == number) & (np.minimum(spelling, len(one["codes"]) - 1) == s)
                _fill_observations(lines, np.flatnonzero(of), ids, about, table, name, one, code, self.world)
        return Texts(person, lines), self._reports(table, person, encounter, ids, times, issued)

    def _reports(self, table, person, encounter, ids, times, issued) -> Texts:
        lines, persons, meta = [], [], _json(_meta("diagnosticreport-lab"))
        category = _json([_concept(f"{_HL7}/v2-0074", "LAB", "Laboratory")])
        for number, name in enumerate(self.world.orders):
            order = self.world.raw["orders"][name]
            if "panel" not in order:
                continue
            rows = np.flatnonzero(table["order"] == number)
            rows = rows[np.argsort(encounter[rows], kind="stable")]
            for group in np.split(rows, np.flatnonzero(np.diff(encounter[rows])) + 1) if len(rows) else []:
                first, last = int(group[0]), int(group[np.argmax(table["issued"][group])])
                p, e = int(person[first]), int(encounter[first])
                results = ",".join(f'{{"reference":"Observation/{ids[row]}"}}' for row in group.tolist())
                lines.append(
                    f'{{"resourceType":"DiagnosticReport","id":"{self._id("DiagnosticReport", p, len(lines))}","meta":{meta},"status":"final",'
                    f'"category":{category},"code":{_json(_concept(_LOINC, *order["panel"]))},"subject":{{"reference":"Patient/{self._id("Patient", p, 0)}"}},'
                    f'"encounter":{{"reference":"Encounter/{self._id("Encounter", p, e)}"}},"effectiveDateTime":"{times[first]}+00:00",'
                    f'"issued":"{issued[last]}.000+00:00","result":[{results}]}}'
                )
                persons.append(p)
        return Texts(np.array(persons, np.int64), lines)

    def _conditions(self) -> tuple[Texts, dict[int, str]]:
        table = self.tables["conditions"]
        onset, recorded = self._times(table["onset"]), self._times(table["recorded"])
        ends = table["onset"] + _PASSING_DAYS * 1440
        over = self._times(np.minimum(ends, self.until))
        codes = [self.world.raw["conditions"][name] for name in self.world.conditions]
        texts = {
            (number, icd): f'"code":{_json(_concept("http://hl7.org/fhir/sid/icd-10-cm", *one["icd"]) if icd else _concept(_SNOMED, *one["code"]))}'
            for number, one in enumerate(codes) if "code" in one for icd in (True, False)
        }  # fmt: skip
        is_icd = [site["icd"] for site in self.world.raw["care"]["sites"]]
        status = {word: f'"clinicalStatus":{_json(_concept(f"{_HL7}/condition-clinical", word, word.capitalize()))}' for word in ("active", "resolved")}  # fmt: skip
        verified = f'"verificationStatus":{_json(_concept(f"{_HL7}/condition-ver-status", "confirmed", "Confirmed"))}'
        category = {flag: f'"category":{_json([_concept(f"{_HL7}/condition-category", *(("encounter-diagnosis", "Encounter Diagnosis") if flag else ("problem-list-item", "Problem List Item")))])}' for flag in (True, False)}  # fmt: skip
        meta, lines, main = _json(_meta("condition")), [], {}
        columns = (table[key].tolist() for key in ("person", "encounter", "condition", "is_main"))
        for number, (p, e, c, is_main, began, known, over_at, end) in enumerate(zip(*columns, onset, recorded, over, ends.tolist(), strict=True)):  # fmt: skip
            identity = self._id("Condition", p, number)
            passes = is_main and end <= self.until and c in self._passing()
            if is_main:
                main[e] = identity
            lines.append(
                f'{{"resourceType":"Condition","id":"{identity}","meta":{meta},{status["resolved" if passes else "active"]},{verified},'
                f'{category[is_main]},{texts[c, is_icd[self.site[p]]]},"subject":{{"reference":"Patient/{self._id("Patient", p, 0)}"}},'
                f'"encounter":{{"reference":"Encounter/{self._id("Encounter", p, e)}"}},"onsetDateTime":"{began}+00:00",'
                + (f'"abatementDateTime":"{over_at}+00:00",' if passes else "") + f'"recordedDate":"{known}+00:00"}}'
            )  # fmt: skip
        return Texts(table["person"].astype(np.int64), lines), main

    def _passing(self) -> set[int]:
        return {
            self.world.conditions.index(name) for name in ("pneumonia", "sepsis", "hip_fracture", "copd_exacerbation")
        }

    def _prescriptions(self) -> Texts:
        table = self.tables["prescriptions"]
        times = self._times(table["time"])
        columns = [table[key].astype(np.int64).tolist() for key in ("person", "encounter", "drug")]
        latest = {(p, d): number for number, (p, _, d) in enumerate(zip(*columns, strict=True))}
        drugs = [f'"medicationCodeableConcept":{_json(_concept("http://www.nlm.nih.gov/research/umls/rxnorm", *self.world.raw["treatments"][name]["code"]))}' for name in self.world.drugs]  # fmt: skip
        meta = _json(_meta("medicationrequest"))
        lines = [
            f'{{"resourceType":"MedicationRequest","id":"{self._id("MedicationRequest", p, number)}","meta":{meta},"status":"{"active" if latest[p, d] == number else "completed"}",'
            f'"intent":"order",{drugs[d]},"subject":{{"reference":"Patient/{self._id("Patient", p, 0)}"}},"encounter":{{"reference":"Encounter/{self._id("Encounter", p, e)}"}},'
            f'"authoredOn":"{time}+00:00","requester":{{"reference":"Practitioner/{doctor_id(int(self.site[p]), p % _DOCTORS_A_SITE)}"}}}}'
            for number, (p, e, d, time) in enumerate(zip(*columns, times, strict=True))
        ]
        return Texts(np.array(columns[0], np.int64), lines)

    def _done(self, what: str) -> Texts:
        """Procedures, or vaccinations."""
        table = self.tables["done"]
        orders = [self.world.raw["orders"][name].get(what) for name in self.world.orders]
        rows = np.flatnonzero(np.array([one is not None for one in orders])[table["order"].astype(np.int64)])
        times, ends = self._times(table["time"][rows]), self._times(table["time"][rows] + 15)
        columns = [table[key][rows].astype(np.int64).tolist() for key in ("person", "encounter", "order")]
        kind = "Procedure" if what == "procedure" else "Immunization"
        meta, lines = _json(_meta(kind.lower())), []
        for number, (p, e, o, time, end) in enumerate(zip(*columns, times, ends, strict=True)):
            patient, encounter = self._id("Patient", p, 0), self._id("Encounter", p, e)
            start = f'{{"resourceType":"{kind}","id":"{self._id(kind, p, number)}","meta":{meta},"status":"completed",'
            at = f'"encounter":{{"reference":"Encounter/{encounter}"}},'
            if what == "procedure":
                lines.append(f'{start}"code":{_json(_concept(_SNOMED, *orders[o]))},"subject":{{"reference":"Patient/{patient}"}},{at}"performedPeriod":{{"start":"{time}+00:00","end":"{end}+00:00"}}}}')  # fmt: skip
            else:
                lines.append(f'{start}"vaccineCode":{_json(_concept("http://hl7.org/fhir/sid/cvx", *orders[o]))},"patient":{{"reference":"Patient/{patient}"}},{at}"occurrenceDateTime":"{time}+00:00","primarySource":true}}')  # fmt: skip
        return Texts(np.array(columns[0], np.int64), lines)


def _fill_observations(lines, rows, ids, about, table, name, one, code, world) -> None:
    """The lines of one result under one code."""
    if not len(rows):
        return
    category = _json([_concept(f"{_HL7}/observation-category", one["category"], one["category"])])
    meta = _json(_meta("observation-lab" if one["category"] == "laboratory" else "vital-signs" if one["category"] == "vital-signs" else "simple-observation"))  # fmt: skip
    start = '{"resourceType":"Observation","id":"'
    whole = (
        _concept(_LOINC, "85354-9", "Blood pressure panel with all children optional")
        if name == "sbp"
        else _concept(_LOINC, *code[:2])
    )
    middle = f'","meta":{meta},"status":"final","category":{category},"code":{_json(whole)},'
    decimals, values = one["decimals"], table["value"][rows].tolist()
    at = rows.tolist()
    if one.get("formula") == "smoking":
        answers = [f'"valueCodeableConcept":{_json(_concept(_SNOMED, *answer))}}}' for answer in _SMOKING]
        for row, value in zip(at, values, strict=True):
            lines[row] = f"{start}{ids[row]}{middle}{about[row]}{answers[int(value)]}"
        return
    unit = f',"unit":"{code[2]}","system":"{_UCUM}","code":"{code[2]}"}}'
    if name == "sbp":
        diastolic = world.raw["measurements"]["dbp"]["codes"][0]
        systolic_text, diastolic_text = (
            f'"code":{_json(_concept(_LOINC, *c[:2]))},"valueQuantity":{{"value":' for c in (code, diastolic)
        )
        for row, value, second in zip(at, values, table["second"][rows].tolist(), strict=True):
            lines[row] = f'{start}{ids[row]}{middle}{about[row]}"component":[{{{systolic_text}{value:.0f}{unit}}},{{{diastolic_text}{second:.0f}{unit}}}]}}'  # fmt: skip
        return
    for row, value in zip(at, values, strict=True):
        lines[row] = f'{start}{ids[row]}{middle}{about[row]}"valueQuantity":{{"value":{value:.{decimals}f}{unit}}}'


def _patient(person: Person, identity: str) -> str:
    race = {"2106-3": "White", "2054-5": "Black or African American", "2028-9": "Asian", "2131-1": "Other Race"}[
        person.race
    ]
    ethnicity = ("2135-2", "Hispanic or Latino") if person.is_hispanic else ("2186-5", "Not Hispanic or Latino")
    omb = "urn:oid:2.16.840.1.113883.6.238"
    resource = {
        "resourceType": "Patient",
        "id": identity,
        "meta": _meta("patient"),
        "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">A simulated person, not a real one.</div>'},
        "extension": [
            {"url": f"{_US_CORE}/us-core-race", "extension": [{"url": "ombCategory", "valueCoding": {"system": omb, "code": person.race, "display": race}}, {"url": "text", "valueString": race}]},
            {"url": f"{_US_CORE}/us-core-ethnicity", "extension": [{"url": "ombCategory", "valueCoding": {"system": omb, "code": ethnicity[0], "display": ethnicity[1]}}, {"url": "text", "valueString": ethnicity[1]}]},
            {"url": f"{_US_CORE}/us-core-birthsex", "valueCode": "M" if person.is_male else "F"},
        ],
        "identifier": [{"type": _concept(f"{_HL7}/v2-0203", "MR", "Medical Record Number"), "system": SYSTEM, "value": identity}],
        "name": [{"use": "official", "family": f"Simulated-{identity[:6]}", "given": ["Person"]}],
        "gender": "male" if person.is_male else "female",
        "birthDate": person.born.isoformat(),
        "address": [{"line": ["1 Simulation Way"], "city": "Simulated City", "state": "MA", "postalCode": f"0{1000 + person.site}", "country": "US"}],
    }  # fmt: skip
    if person.died is not None:
        resource["deceasedDateTime"] = person.died
    return _json(resource)


def person_uuid(seed: int, block: int, number: int) -> str:
    """The first twenty hexadecimal digits of all ids of one person's resources, as a UUID begins."""
    digits = hashlib.blake2b(f"simulated {seed} {block} {number}".encode(), digest_size=10).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:]}-"


def patient_id(seed: int, block: int, number: int) -> str:
    """The id of one person's Patient resource."""
    return f"{person_uuid(seed, block, number)}{0:012x}"


def _uuid(name: str) -> str:
    digits = hashlib.blake2b(f"simulated {name}".encode(), digest_size=16).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _meta(profile: str) -> dict:
    return {"profile": [f"{_US_CORE}/us-core-{profile}"], "tag": [{"system": SYSTEM, "code": "simulated"}]}


def _concept(system: str, code: str, display: str) -> dict:
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


__all__ = ["DIED", "Person", "Texts", "bundle_of", "person_uuid", "shared_resources", "write_block"]
