import pytest

from luthier.chat.template import Template
from luthier.core.errors import InvalidRequest

USER = {"role": "user", "content": "hi"}
ANSWER = {"role": "assistant", "content": "yo"}


def test_blocks_are_trimmed_as_transformers_does() -> None:
    source = "{% for m in messages %}\n    {% if true %}\n{{ m['content'] }}\n    {% endif %}\n{% endfor %}"
    assert Template(source, {}).render([USER, ANSWER]) == "hi\nyo\n"


def test_generation_marks_leave_no_trace() -> None:
    source = (
        "{% for m in messages %}[{% if m.role == 'assistant' %}{%- generation -%}{{ m.content }}!{% endgeneration %}"
        "{% else %}{{ m.content }}{% endif %}]{% endfor %}"
    )
    assert Template(source, {}).render([USER, ANSWER, USER, ANSWER]) == "[hi][yo!][hi][yo!]"


def test_marks_tools_and_helpers_are_seen() -> None:
    source = "{{ bos_token }}{% for t in tools %}{{ t | tojson }}{% endfor %}{{ strftime_now('%Y')|length }}{{ messages[0].content }}"
    assert Template(source, {"bos_token": "<s>"}).render([USER], tools=[{"b": "é<", "a": 1}]) == '<s>{"b": "é<", "a": 1}4hi'


def test_the_template_can_refuse() -> None:
    with pytest.raises(InvalidRequest, match="must alternate"):
        Template("{{ raise_exception('roles must alternate') }}", {}).render([USER])


@pytest.mark.parametrize(
    "source", ["{{ messages.append(1) }}", "{{ ''.__class__.__mro__ }}", "{{ messages[0].update({'a': 1}) }}", "{{ undefined.x }}"]
)
def test_the_sandbox_holds(source: str) -> None:
    with pytest.raises(InvalidRequest):
        Template(source, {}).render([USER])


def test_a_template_that_is_no_jinja_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="not valid"):
        Template("{% for %}", {})
