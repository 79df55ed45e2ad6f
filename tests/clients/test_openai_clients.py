"""The official client as it was before, and the one for Node: each in an environment of its own, against a real server.

The environments are made by ``make test-clients`` and by ``.ci/run``; where one is absent its test is skipped and says so.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts import make_client_env
from tests.support.api_server import KEY, ApiServer
from tests.support.conformance import leave
from tests.support.finished_job import finish_job
from tests.support.round_trip import BASE_NAME, ROWS
from tests.support.webhook_receiver import Receiver

HERE = Path(__file__).parent
EVENT: Any = "fine_tuning.job.succeeded"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """To the letter of the schema, because the clients check every answer against it."""
    folder = tmp_path_factory.mktemp("api") / "data"
    server = ApiServer(folder, spec_strict=True, webhooks_allow_http=True, webhooks_allow_private=True)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def given(server: ApiServer) -> dict[str, Any]:
    """Where to go, a job that has ended, and a webhook that was really delivered."""
    client = server.client()
    file = client.files.create(file=("train.jsonl", ROWS), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model=BASE_NAME, training_file=file.id)
    model = finish_job(server.services, job.id)
    receiver = Receiver([200])
    try:
        endpoint = client.webhooks.create(name="clients", url=receiver.url, event_types=[EVENT])
        client.webhooks.test(endpoint.id, event_type=EVENT)
        sent = receiver.next()
    finally:
        receiver.stop()
    webhook = {"body": sent.body.decode(), "headers": dict(sent.headers), "secret": endpoint.signing_secret}
    return {"base_url": server.url + "/v1", "api_key": KEY, "job": job.id, "model": model, "webhook": webhook}


def needs(name: str) -> Path:
    """The client's environment; skips the test where it is absent."""
    if reason := make_client_env.why_absent(name):
        pytest.skip(reason)
    return make_client_env.environment(name)


def run(command: list[str], given: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout.splitlines()[-1])


def pinned(name: str) -> str:
    """The version of the client that the pins name."""
    found = re.search(r"^openai==(\S+)$", (HERE / name / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("name", ["openai-1", "openai-2"])
def test_an_older_python_client(given: dict[str, Any], name: str) -> None:
    python = needs(name) / "bin" / "python"
    told = run([str(python), "-W", "error::UserWarning", str(HERE / "python_round_trip.py")], given)
    assert told["version"] == pinned(name)
    assert {"fine_tuning.jobs.pause", "responses.create", "chat.completions.list", "webhooks.unwrap"} <= set(told["calls"])
    leave(f"client-{name}", {"client": "openai for Python", "validation": "strict", **told})


def test_the_client_for_node(given: dict[str, Any]) -> None:
    environment = needs("openai-node")
    node = shutil.which("node") or shutil.which("nodejs")
    if node is None:
        pytest.skip("node is not installed (on Debian and Ubuntu: apt install nodejs npm)")
    told = run([node, str(HERE / "openai-node" / "round_trip.mjs"), str(environment)], given)
    assert told["version"] == json.loads((HERE / "openai-node" / "package.json").read_text())["dependencies"]["openai"]
    assert {"fineTuning.jobs.listEvents", "chat.completions.stream", "webhooks.unwrap"} <= set(told["calls"])
    leave("client-openai-node", {"client": f"openai for Node ({told.pop('node')})", "validation": "none in this client", **told})


def test_old_means_old() -> None:
    assert pinned("openai-1") == "1.109.1"
    assert pinned("openai-2").startswith("2.")
