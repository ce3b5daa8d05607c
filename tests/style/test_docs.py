"""What the documents claim to be tested is tested."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_every_test_that_exactness_names_exists():
    text = (ROOT / "docs/exactness.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", text))
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("*.py")]
    defined = {name for source in sources for name in re.findall(r"^def (test_\w+)", source, re.MULTILINE)}
    assert named and not named - defined, sorted(named - defined)
    files = re.findall(r"`((?:tests/)\S+|\w+_test\.c)`", text)
    missing = [name for name in files if not list((ROOT / "tests").rglob(pathlib.Path(name).name))]
    assert files and not missing, missing
