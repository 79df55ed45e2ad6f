"""``luthier jobs rows``: the rows, their page's end, and JSON."""

import json

from tests.support.command_line import luthier
from tests.support.fake_server import FakeApi, serving


def _rows(*options: str):
    with serving(FakeApi([], lambda model, text: "")) as url:
        return luthier("jobs", "rows", "ftjob-abc", *options, "--url", url, "--api-key", "sk-x")


def test_rows_are_shown_with_what_comes_next():
    found = _rows()
    assert found.exit_code == 0, found.stderr
    assert "17" in found.stdout
    assert "2.500" in found.stdout
    assert "3.250" in found.stdout
    assert "Epoch 2; over are 1, 2." in found.stderr
    assert "More: luthier jobs rows ftjob-abc --epoch 2 --order loss --after 17" in found.stderr


def test_json_and_lines_alone():
    assert json.loads(_rows("--json").stdout)["data"][0]["line"] == 17
    assert _rows("--quiet").stdout == "17\n"
