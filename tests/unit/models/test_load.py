import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from luthier.core.errors import InvalidRequest
from luthier.models.load import load_model
from tests.support.tiny_models import mini_folder


def test_the_fast_path_imports_neither_transformers_nor_peft() -> None:
    script = (
        "import sys; from pathlib import Path; from luthier.models.load import load_model; from luthier.chat.renderer import Renderer;"
        "p = Path(sys.argv[1]); m = load_model(p); m.add_adapter('a', rank=2, alpha=4.0, seed=1); Renderer.load(p);"
        "print([n for n in ('transformers', 'peft') if n in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", script, str(mini_folder())], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_chat_and_facts_need_no_torch() -> None:
    script = (
        "import sys; from pathlib import Path; from luthier.models.facts import read_facts; from luthier.chat.renderer import Renderer;"
        "p = Path(sys.argv[1]); read_facts(p); Renderer.load(p); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", script, str(mini_folder())], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_an_architecture_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(mini_folder(), tmp_path / "odd"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "no-such-model", "architectures": ["Odd"]}))
    with pytest.raises(InvalidRequest, match="no-such-model"):
        load_model(folder)
