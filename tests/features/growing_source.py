"""A source that changes from day to day: exports of a few patients, with everything that can happen to a record."""

import json
import os
import random
import shutil
from pathlib import Path
from zlib import crc32

from features.sources.landed import Manifest, write_manifest

SNOMED, LOINC = "http://snomed.info/sct", "http://loinc.org"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
CODES = ("44054006", "38341003", "73211009", "195967001")
MEDICINES = ("860975", "314076")
SYSTEM = "https://records.example.org/mrn"

Json = dict[str, object]


class GrowingSource:
    """Exports under one folder, each of which adds to, corrects or takes back what those before it said."""

    births = (1931, 1933, 1960, 1990)
    corrected_births = (1932, 1970)

    def __init__(self, folder: Path, draw: random.Random) -> None:
        self.folder = folder
        self.draw = draw
        self.clock = 0  # days since the first export
        self.writings = 0
        self.naming = 0  # another number, other names of files, and so another order
        self.exports: dict[str, list[Json]] = {}
        self.deleted: dict[str, list[str]] = {}
        self.known: dict[str, Json] = {}  # Type/id -> the newest version, of all that was ever said
        self.files_of: dict[str, int] = {}  # into how many files the resources of a type of an export are split
        self.add_export(first=True)

    # What can happen -----------------------------------------------------------------------------------------

    def add_export(self, *, first: bool = False) -> None:
        """New and changed resources, and deletions."""
        self.clock += self.draw.randrange(1, 40)
        said: list[Json] = []
        for _ in range(5 if first else self.draw.randrange(2)):
            said += self._new_patient()
        for _ in range(0 if first else self.draw.randrange(1, 7)):
            said += self.draw.choice([self._new_records, self._new_version, self._moved, self._in_error])()
        self.draw.shuffle(said)
        name = f"{len(self.exports) + 1:04}-{'full' if first else 'since'}"
        self.exports[name] = said
        self.deleted[name] = [] if first else self._deletions()
        self.files_of[name] = 1

    def drop_lines(self) -> None:
        """An export loses some lines, as when it was made again and some records are gone."""
        name = self.draw.choice(list(self.exports))
        self.exports[name] = [
            one
            for one in self.exports[name]
            if one["resourceType"] in ("Patient", "Encounter") or self.draw.random() < 0.8
        ]

    def drop_export(self) -> None:
        """The last export is withdrawn as a whole."""
        if len(self.exports) > 1:
            name = list(self.exports)[-1]
            del self.exports[name], self.deleted[name], self.files_of[name]

    def reorder(self) -> None:
        """The same lines in another order."""
        for said in self.exports.values():
            self.draw.shuffle(said)

    def split(self) -> None:
        """The same lines in other files."""
        for name in self.files_of:
            self.files_of[name] = self.draw.randrange(1, 4)

    def rename(self) -> None:
        """The same files under other names."""
        self.naming += 1

    def swap(self) -> None:
        """Two exports change places."""
        if len(self.exports) > 1:
            one, other = self.draw.sample(list(self.exports), 2)
            for of_exports in (self.exports, self.deleted, self.files_of):
                of_exports[one], of_exports[other] = of_exports[other], of_exports[one]  # type: ignore[index]

    def delete_patient(self) -> None:
        """An export says that a patient is no more."""
        if (patient := self._a("Patient")) is not None:
            self.deleted[self.draw.choice(list(self.exports))].append(f"Patient/{patient['id']}")

    def restore(self) -> None:
        """All deletions were mistakes."""
        self.deleted = {name: [] for name in self.exports}

    def touch(self) -> None:
        """The same files, written again."""

    # What is said --------------------------------------------------------------------------------------------

    def _new_patient(self) -> list[Json]:
        number = sum(name.startswith("Patient/") for name in self.known)
        patient: Json = {
            "resourceType": "Patient",
            "id": f"p{number}",
            "identifier": [{"system": SYSTEM, "value": f"mrn{number}"}],
            "gender": "female",
            "birthDate": f"{self.draw.choice(self.births)}-0{self.draw.randrange(1, 9)}-11",
        }
        if self.draw.random() < 0.5:  # moved away, or will have
            patient["address"] = [{"period": {"end": self._moment()}}]
        records = [patient, self._visit(f"p{number}")]
        for _ in range(self.draw.randrange(4)):
            records.append(self._record(f"p{number}"))
        return [self._say(record) for record in records]

    def _new_records(self) -> list[Json]:
        patient = self._a("Patient")
        return [] if patient is None else [self._say(self._record(str(patient["id"])))]

    def _new_version(self) -> list[Json]:
        record = self._a(None)
        if record is None:
            return []
        newer = dict(record)
        match record["resourceType"]:
            case "Observation":
                newer["valueQuantity"] = {"value": self.draw.randrange(40, 200), "unit": "kg", "code": "kg"}
            case "Patient":
                newer["birthDate"] = f"{self.draw.choice(self.corrected_births)}-03-0{self.draw.randrange(1, 9)}"
            case "Encounter":
                newer["period"] = self._period()
            case "Medication":
                newer["code"] = _concept(RXNORM, self.draw.choice(MEDICINES))
            case "Condition":
                newer["code"] = _concept(SNOMED, self.draw.choice(CODES))
        return [self._say(newer)]

    def _moved(self) -> list[Json]:
        """A record turns out to be another patient's."""
        record, patient = self._a("Observation"), self._a("Patient")
        if record is None or patient is None:
            return []
        return [self._say(record | {"subject": {"reference": f"Patient/{patient['id']}"}})]

    def _in_error(self) -> list[Json]:
        record = self._a("Observation")
        return [] if record is None else [self._say(record | {"status": "entered-in-error"})]

    def _deletions(self) -> list[str]:
        names = [name for name in self.known if not name.startswith(("Patient/", "Organization/"))]
        gone = self.draw.sample(names, min(len(names), self.draw.randrange(3)))
        if self.draw.random() < 0.3 and (patient := self._a("Patient")) is not None:
            gone.append(f"Patient/{patient['id']}")
        return gone

    def _a(self, kind: str | None) -> Json | None:
        """The newest version of some resource that was ever said, of a kind or of any."""
        found = [one for name, one in self.known.items() if kind is None or name.startswith(f"{kind}/")]
        return self.draw.choice(found) if found else None

    def _say(self, resource: Json) -> Json:
        resource = {name: value for name, value in resource.items() if name != "meta"}
        # The others do not say which version they are.
        if self.draw.random() < (0.3 if resource["resourceType"] in ("Medication", "Observation") else 0.7):
            resource["meta"] = {"lastUpdated": self._moment()}
        self.known[f"{resource['resourceType']}/{resource['id']}"] = resource
        return resource

    def _visit(self, patient: str) -> Json:
        site = self.draw.choice(["Organization/o1", "Organization?identifier=npi|1"])
        return {
            "resourceType": "Encounter",
            "id": self._id("Encounter"),
            "status": "finished",
            "class": {"code": "AMB"},
            "subject": {"reference": f"Patient/{patient}"},
            "serviceProvider": {"reference": site},
            "period": self._period(),
        }

    def _record(self, patient: str) -> Json:
        subject = self.draw.choice([f"Patient/{patient}"] * 3 + [f"Patient?identifier={SYSTEM}|mrn{patient[1:]}"])
        visits = [one for one in self.known.values() if one["resourceType"] == "Encounter"]
        about: Json = {"subject": {"reference": subject}}
        if visits and self.draw.random() < 0.6:
            about["encounter"] = {"reference": f"Encounter/{self.draw.choice(visits)['id']}"}
        weight = {"value": self.draw.randrange(40, 200), "unit": "kg", "code": "kg"}
        medicine = self._a("Medication") or {"id": "m-later"}
        records: list[Json] = [
            about
            | {"resourceType": "Observation", "status": "final", "code": _concept(LOINC, "29463-7")}
            | {"effectiveDateTime": self._moment(), "valueQuantity": weight},
            about | {"resourceType": "Condition", "code": _concept(SNOMED, self.draw.choice(CODES))},
            about
            | {"resourceType": "MedicationRequest", "authoredOn": self._moment()}
            | {"medicationReference": {"reference": f"Medication/{medicine['id']}"}},
            *[
                {"resourceType": "Medication", "code": _concept(RXNORM, medicine)}
                | {"id": self.draw.choice(["m1", "m2", "m-later"])}
                for medicine in MEDICINES
            ],
            {"resourceType": "Organization", "id": "o1"}
            | {"identifier": [{"system": "npi", "value": self.draw.choice(["1", "2"])}]},
            {"resourceType": "Claim"},
            {"resourceType": "Condition", "recordedDate": "never"},  # cannot be read
        ]
        record = self.draw.choice([records[0], *records])
        return {"id": self._id(str(record["resourceType"]))} | record

    def _id(self, kind: str) -> str:
        return f"{kind.lower()}-{self.draw.randrange(10**9)}"

    def _moment(self) -> str:
        day = self.clock if self.draw.random() < 0.5 else self.draw.randrange(self.clock + 1)
        return f"{2021 + day // 360}-{1 + day // 30 % 12:02}-{1 + day % 30 % 28:02}T0{self.draw.randrange(10)}:30:17Z"

    def _period(self) -> Json:
        return {"start": self._moment(), "end": self._moment()}

    # How it is written ---------------------------------------------------------------------------------------

    def write(self) -> None:
        """Write all exports anew."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for name, said in self.exports.items():
            place = self.folder / name
            place.mkdir(parents=True)
            for kind in sorted({str(one["resourceType"]) for one in said}):
                lines = [json.dumps(one) for one in said if one["resourceType"] == kind]
                for part in range(self.files_of[name]):
                    own = lines[part :: self.files_of[name]]
                    first = chr(ord("a") + crc32(f"{self.naming} {kind} {part}".encode()) % 26)
                    (place / f"{first}-{kind}.{part}.ndjson").write_text("".join(line + "\n" for line in own))
            gone = [{"request": {"method": "DELETE", "url": url}} for url in self.deleted[name]]
            if gone:
                bundle = {"resourceType": "Bundle", "type": "transaction", "entry": gone}
                (place / "deleted.ndjson").write_text(json.dumps(bundle) + "\n")
            until = self._covers_until(name)
            write_manifest(place, Manifest("fhir_server", "a test", "2024-01-01T00:00:00Z", (), covers_until=until))
        self.writings += 1
        for path in self.folder.rglob("*.ndjson"):  # so quick that the clock may stand still
            os.utime(path, ns=(0, 10**18 + self.writings))

    def _covers_until(self, name: str) -> str:
        return f"2024-01-{1 + list(self.exports).index(name):02}T00:00:00Z"


def _concept(system: str, code: str) -> Json:
    return {"coding": [{"system": system, "code": code, "display": f"Code {code}"}]}
