"""A job of any size, answered by the fake API: for the tests of the saved page."""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from luthier.trace.insight import insight_of
from luthier.trace.quiz import quiz_of
from luthier.trace.view import view_of
from tests.support.fake_server import FakeApi
from tests.support.trace_logs import FINAL, whole_run

JOB = "ftjob-abc"
_OURS = f"/v1/luthier/jobs/{JOB}/"


@dataclass
class SavedJobApi:
    """The fake API with what the dashboard reads; tests change its parts before they ask."""

    view: dict[str, Any] = field(default_factory=lambda: {**deepcopy(view_of(whole_run()).to_dict()), "steps": []})
    num_steps: int = 4
    num_rows: int = 3
    num_validations: int = 2
    events: list[dict[str, Any]] = field(default_factory=lambda: [event_row(1, "Created"), event_row(2, "Step 1/4", kind="metrics")])
    """Oldest first."""
    suffix: str = "demo"

    def api(self) -> FakeApi:
        """As a server's answers."""
        outer = self

        class Api(FakeApi):
            def reply(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, dict[str, Any]]:
                found = outer.answer(path, {name: values[0] for name, values in query.items()})
                if found is None:
                    return super().reply(method, path, query, body)
                self.requests.append((method, path, query))
                return 200, found

        api = Api(whole_run(), lambda model, text: "", tuned=FINAL)
        api.page_size = 5
        return api

    def answer(self, path: str, query: dict[str, str]) -> dict[str, Any] | None:
        """What the path answers, where it is one of the dashboard's."""
        if path == f"/v1/fine_tuning/jobs/{JOB}/events":
            return self._events(int(query["limit"]), query.get("after"))
        if path == f"{_OURS}view":
            return self._view()
        if path == f"{_OURS}metrics":
            return self._metrics(int(query["points"]))
        if path == f"{_OURS}row_losses":
            rows = [
                {"object": "luthier.row_loss", "line": i + 1, "tokens": 5, "loss": 9 - i / 1e4, "first_loss": 9.5}
                for i in range(self.num_rows)
            ]
            shown = rows[: int(query["limit"])]
            return {"object": "list", "data": shown, "has_more": len(rows) > len(shown), "epoch": 2, "epochs": [1, 2]}
        return None

    def _view(self) -> dict[str, Any]:
        told = view_of(whole_run())
        row = {
            "object": "luthier.job", "id": JOB, "status": "succeeded", "created_at": 1, "started_at": 2, "finished_at": 3,
            "model": "gpt-4o-mini", "base": "luthier-mini", "method": "supervised", "adapter": "lora", "suffix": self.suffix,
            "fine_tuned_model": FINAL, "metadata": None, "training_file": "file-1", "validation_file": "file-2", "step": 4,
            "total_steps": 4, "epoch": 2, "total_epochs": 2, "train_loss": 1.0, "valid_loss": 1.0, "best_valid_loss": 1.0,
            "eta_seconds": None, "queue_place": None, "error": None,
        }  # fmt: skip
        return {
            "object": "luthier.job_view",
            "job": row,
            "view": self.view,
            "step_count": self.num_steps,
            "quiz": quiz_of(told),
            "insight": insight_of(told),
            "code": {"python": "print(1)", "curl": "curl x", "cli": "luthier jobs create"},
            "openai_cost": None,
        }

    def _metrics(self, points: int) -> dict[str, Any]:
        bucket = -(-self.num_steps // points) if self.num_steps else 1
        steps = list(range(bucket, self.num_steps + 1, bucket))
        names = (
            "train_loss_min",
            "train_loss_mean",
            "train_loss_max",
            "accuracy_mean",
            "learning_rate",
            "grad_norm_mean",
            "tokens_per_second",
        )
        series: dict[str, Any] = {name: [1.234567 + i / 1e6 for i in range(len(steps))] for name in names}
        held = list(range(1, self.num_validations + 1))
        valid = {"step": held, "loss": [1.5 for _ in held], "accuracy": [0.5 for _ in held], "full": [i % 100 == 0 for i in held]}
        return {"object": "luthier.metrics", "steps": self.num_steps, "bucket": bucket, "series": {"step": steps, **series, "valid": valid}}

    def _events(self, limit: int, after: str | None) -> dict[str, Any]:
        newest = self.events[::-1]
        start = 0 if after is None else next(i for i, event in enumerate(newest) if event["id"] == after) + 1
        return {"object": "list", "data": newest[start : start + limit], "has_more": len(newest) > start + limit}


def event_row(number: int, message: str, *, kind: str = "message") -> dict[str, Any]:
    """One of OpenAI's events of a job."""
    data = {"step": number, "train_loss": 1.5, "train_mean_token_accuracy": 0.5} if kind == "metrics" else None
    return {
        "object": "fine_tuning.job.event",
        "id": f"ftevent-{number}",
        "created_at": number,
        "level": "info",
        "message": message,
        "type": kind,
        "data": data,
    }


def large_job() -> SavedJobApi:
    """5,000 steps, 2,000 compared rows with long texts, many events and row losses."""
    job = SavedJobApi(num_steps=5000, num_rows=5000, num_validations=5000)
    job.events = [event_row(i, f"Step {i}/5000: training loss=1.50", kind="metrics") for i in range(1, 5001)]
    job.events.insert(0, event_row(9001, "Created fine-tuning job"))
    job.events.append(event_row(9002, "The job has successfully completed"))
    samples = [
        {
            "line": i,
            "prompt": f"Prompt {i} " + "wörd " * 200,
            "expected": "yes " * 300,
            "base": "no " * 300,
            "tuned": "yes " * 300,
            "verdict": "better",
        }
        for i in range(1, 2001)
    ]
    job.view["evaluation"] = {**job.view["evaluation"], "n": 2000, "better": 2000, "same": 0, "samples": samples}
    return job
