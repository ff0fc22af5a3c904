"""The README's examples run, and print what it says."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.skipif(not README.exists(), reason="only a checkout has the README")
def test_examples(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL):
        exec(block, names)
        said = [
            line.partition("#")[2].strip() for line in block.splitlines() if line.startswith("print") and "#" in line
        ]
        printed = capsys.readouterr().out
        assert all(words in printed for words in said)
