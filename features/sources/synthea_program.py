"""What Synthea needs to run: a Java that is new enough, and the jar of one pinned release."""

import http.client
import os
import re
import shutil
import subprocess
from pathlib import Path
from urllib.request import urlopen

from tqdm import tqdm

from features.errors import SourceError
from features.sources.landed import sha256_of

VERSION = "4.0.0"
JAR_URL = f"https://github.com/synthetichealth/synthea/releases/download/v{VERSION}/synthea-with-dependencies.jar"
# As GitHub states it for the file of that release; also in https://github.com/synthetichealth/synthea/issues/1698.
JAR_SHA256 = "ed43c20ad40ba5c3bc724503a5af032715fe3c491620b766148e7c2361e6ecc1"
OLDEST_JAVA = 17
_WITHOUT = "Or take `--from simulated`, which needs neither Java nor a network."
_TIMEOUT_SECONDS = 60


def find_java() -> str:
    """The java of JAVA_HOME, else of PATH. Raises SourceError when there is none, or it is too old for Synthea."""
    in_java_home = Path(os.environ.get("JAVA_HOME") or "/nowhere", "bin", "java")
    java = str(in_java_home) if in_java_home.is_file() else shutil.which("java")
    version = _java_version(java) if java else None
    if java is None or version is None:
        raise SourceError(
            f"Synthea needs Java {OLDEST_JAVA} or newer, and no Java was found (JAVA_HOME, PATH). Install one, such as "
            f"Debian's openjdk-{OLDEST_JAVA}-jre-headless, and run again. {_WITHOUT}"
        )
    if version < OLDEST_JAVA:
        raise SourceError(
            f"Synthea {VERSION} needs Java {OLDEST_JAVA} or newer; {java} is Java {version}. Install a newer one, or "
            f"point JAVA_HOME at it, and run again. {_WITHOUT}"
        )
    return java


def jar_digest() -> str:
    """The sha256 of the jar that will be run: of one's own, when SEQUELA_SYNTHEA_JAR names it, else the pinned one."""
    own = _own_jar()
    return sha256_of(own) if own else JAR_SHA256


def version_of(digest: str) -> str:
    """The release with this sha256, in words."""
    return VERSION if digest == JAR_SHA256 else f"of one's own jar, sha256 {digest[:12]}"


def find_jar() -> Path:
    """One's own jar, else the pinned release from the cache, else downloaded into it.

    Raises SourceError when it cannot be downloaded, or is not what was released.
    """
    if own := _own_jar():
        return own
    place = _cache() / f"synthea-{VERSION}.jar"
    if not (place.is_file() and sha256_of(place) == JAR_SHA256):
        _download(JAR_URL, place)
    return place


def _own_jar() -> Path | None:
    named = os.environ.get("SEQUELA_SYNTHEA_JAR")
    if not named:
        return None
    if not Path(named).is_file():
        raise SourceError(f"SEQUELA_SYNTHEA_JAR names {named}, and there is no such file. Correct it, or unset it.")
    return Path(named).resolve()


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sequela"


def _java_version(java: str) -> int | None:
    """8 for `version "1.8.0_392"`, 17 for `version "17.0.15"`; None when it does not say, as macOS's empty java."""
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, errors="replace", check=False)
    except OSError:
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', said.stderr + said.stdout)
    return int(found.group(1)) if found else None


def _download(url: str, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f".{place.name}.partial")
    try:
        _fetch(url, partial)
        if (found := sha256_of(partial)) != JAR_SHA256:
            raise SourceError(
                f"What came from {url} is not Synthea {VERSION}: its sha256 is {found}, not {JAR_SHA256}. It was "
                "removed and not run. Try again; if it stays so, somebody on the way, or the release, has changed it."
            )
        partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)


def _fetch(url: str, place: Path) -> None:
    try:
        with urlopen(url, timeout=_TIMEOUT_SECONDS) as answer, place.open("wb") as file:
            size = int(answer.headers.get("Content-Length") or 0) or None
            with tqdm(
                total=size, desc="downloading Synthea", unit="B", unit_scale=True, delay=1, disable=None
            ) as progress:
                while piece := answer.read(1 << 20):
                    file.write(piece)
                    progress.update(len(piece))
    except (OSError, http.client.HTTPException) as error:
        raise SourceError(
            f"Synthea could not be downloaded from {url} ({error}). Where there is a network, download that file, then "
            f"name it here: SEQUELA_SYNTHEA_JAR=/path/to/synthea-with-dependencies.jar. {_WITHOUT}"
        ) from error
