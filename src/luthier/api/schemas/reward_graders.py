"""The graders that ``method.reinforcement.grader`` may hold (reference, section 2.11), by their ``type``.

What it does: the fields of each type and their bounds. What it does not: grade, or check that a formula or a program makes
sense. Called by ``fine_tuning.py``.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, TypeAdapter, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

from luthier.api.schemas.fields import AnyObject, ModelName, OpenModel, Temperature, TopP, WireModel, refusal

Name = Annotated[str, Field(min_length=1, max_length=256)]
Template = Annotated[str, Field(max_length=262_144)]


class _Grader(WireModel):
    pass_threshold: float | None = None


class _Named(_Grader):
    name: Name


class StringCheck(_Named):
    """Two texts compared."""

    type: Literal["string_check"]
    input: Template
    reference: Template
    operation: Literal["eq", "ne", "like", "ilike"]


class TextSimilarity(_Named):
    """How near two texts are. ``cosine`` needs an embedding model and exists for evals only."""

    type: Literal["text_similarity"]
    input: Template
    reference: Template
    evaluation_metric: Literal["fuzzy_match", "bleu", "gleu", "meteor", "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l"]


class Python(_Grader):
    """A program with ``def grade(sample, item) -> float``. The guide leaves its name out."""

    type: Literal["python"]
    name: Name | None = None
    source: Annotated[str, Field(min_length=1, max_length=262_143)]
    image_tag: Annotated[str, Field(max_length=64)] | None = None


def _content_item(value: object) -> object:
    if not isinstance(value, str | dict):
        raise refusal(
            "invalid_type", f"Invalid type for a part of a message: expected a string or an object, but got {value!r:.50} instead."
        )
    return value


_ITEMS = TypeAdapter(list[Annotated[Any, PlainValidator(_content_item)]])


def _content(value: object) -> object:
    return _ITEMS.validate_python(value) if isinstance(value, list) else _content_item(value)


class GraderMessage(WireModel):
    """One message to the model that judges."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Annotated[Any, PlainValidator(_content, json_schema_input_type=str | AnyObject | list[str | AnyObject])]
    type: Literal["message"] | None = None


GraderMessages = Annotated[list[GraderMessage], Field(min_length=1, max_length=256)]


class GraderSampling(WireModel):
    """How the judging model samples."""

    seed: int | None = None
    top_p: TopP | None = None
    temperature: Temperature | None = None
    max_completions_tokens: Annotated[int, Field(ge=1)] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None


class ScoreModel(_Named):
    """A model gives a number."""

    type: Literal["score_model"]
    model: ModelName
    input: GraderMessages
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    sampling_params: GraderSampling | None = None


class LabelModel(_Named):
    """A model gives a label. Only inside ``multi``."""

    type: Literal["label_model"]
    model: ModelName
    input: GraderMessages
    labels: Annotated[list[Name], Field(min_length=1, max_length=1024)]
    passing_labels: list[str]

    @field_validator("passing_labels")
    @classmethod
    def _are_labels(cls, passing: list[str], info: ValidationInfo) -> list[str]:
        labels = info.data.get("labels", passing)
        unknown = next((label for label in passing if label not in labels), None)
        if unknown is not None:
            raise refusal("invalid_value", f"Invalid 'passing_labels': {unknown!r:.100} is not one of 'labels'.")
        return passing


class _InnerType(OpenModel):
    type: Literal["string_check", "text_similarity", "score_model", "python", "label_model"]


class _OuterType(OpenModel):
    type: Literal["string_check", "text_similarity", "score_model", "python", "multi"]


_INNER: dict[str, TypeAdapter[Any]] = {
    "string_check": TypeAdapter(StringCheck),
    "text_similarity": TypeAdapter(TextSimilarity),
    "score_model": TypeAdapter(ScoreModel),
    "python": TypeAdapter(Python),
    "label_model": TypeAdapter(LabelModel),
}


def _object(value: object) -> object:
    if not isinstance(value, dict):
        raise PydanticKnownError("dict_type")
    return value


# By hand and not as a tagged union, whose errors would carry the tag in their path.
def _inner(value: object) -> Any:
    return _INNER[_InnerType.model_validate(_object(value)).type].validate_python(value)


_InnerForm = Annotated[StringCheck | TextSimilarity | ScoreModel | Python | LabelModel, Field(discriminator="type")]
Inner = Annotated[Any, PlainValidator(_inner, json_schema_input_type=_InnerForm)]
_MANY = TypeAdapter(Annotated[list[Inner], Field(min_length=1, max_length=64)])
_NAMED = TypeAdapter(Annotated[dict[Name, Inner], Field(min_length=1, max_length=64)])
_GraderForms = (
    _InnerForm
    | Annotated[list[_InnerForm], Field(min_length=1, max_length=64)]
    | Annotated[dict[Name, _InnerForm], Field(min_length=1, max_length=64)]
)


def _inner_graders(value: object) -> Any:
    """A map from names to graders, a list, or a single one: the guide, the examples and the schema differ."""
    if isinstance(value, list):
        return _MANY.validate_python(value)
    plain = _object(value)
    assert isinstance(plain, dict)
    return _inner(plain) if isinstance(plain.get("type"), str) else _NAMED.validate_python(plain)


class Multi(_Named):
    """Several graders under one formula; no ``multi`` inside."""

    type: Literal["multi"]
    graders: Annotated[Any, PlainValidator(_inner_graders, json_schema_input_type=_GraderForms)]
    calculate_output: Annotated[str, Field(min_length=1, max_length=4096)]


_OUTER: dict[str, TypeAdapter[Any]] = {**_INNER, "multi": TypeAdapter(Multi)}


def _outer(value: object) -> Any:
    return _OUTER[_OuterType.model_validate(_object(value)).type].validate_python(value)


_OuterForm = Annotated[StringCheck | TextSimilarity | ScoreModel | Python | Multi, Field(discriminator="type")]
RewardGrader = Annotated[Any, PlainValidator(_outer, json_schema_input_type=_OuterForm)]
"""A grader of a reinforcement job."""
