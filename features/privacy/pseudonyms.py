"""Keyed pseudonyms: the same id always gets the same number, and only the key can tell which."""

from hashlib import blake2b

Hasher = blake2b


def pseudonym(key: bytes, kind: str, identifier: str) -> int:
    """A number in [0, 2**63) for `identifier`, a resource id of FHIR type `kind` (keyed BLAKE2b).

    Two ids share a number with odds of 2**-63; two patients who do stop the run (see `features.ingest`).
    """
    return finish_pseudonym(prefix_hasher(key, kind), identifier)


def prefix_hasher(key: bytes, kind: str) -> Hasher:
    """The part of `pseudonym` that all resources of a kind share; much the dearer part."""
    return blake2b(f"{kind}/".encode(), key=key, digest_size=8)


def finish_pseudonym(hasher: Hasher, identifier: str) -> int:
    """The pseudonym of a resource of the kind that `hasher` was made for."""
    own = hasher.copy()
    own.update(identifier.encode())
    return int.from_bytes(own.digest(), "little") >> 1


def label(key: bytes, kind: str, text: str) -> str:
    """A short readable stand-in, such as `file_3f9a01c2d4`, for a name that may not be shown."""
    return f"{kind}_{blake2b(f'{kind}/{text}'.encode(), key=key, digest_size=5).hexdigest()}"


def draw_split(key: bytes, subject_id: int, train_share: float, tuning_share: float) -> str:
    """train, tuning or held_out, by a keyed hash: stable whoever else is in the data."""
    digest = blake2b(subject_id.to_bytes(8, "little"), key=key, digest_size=8).digest()
    position = int.from_bytes(digest, "little") / 2**64
    if position < train_share:
        return "train"
    return "tuning" if position < train_share + tuning_share else "held_out"
