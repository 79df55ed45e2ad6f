import pytest

from luthier.chat.template import Template
from luthier.core.errors import InvalidRequest

USER = {"role": "user", "content": "hi"}
ANSWER = {"role": "assistant", "content": "yo"}


def test_blocks_are_trimmed_as_transformers_does() -> None:
    source = "{% for m in messages %}\n    {% if true %}\n{{ m['content'] }}\n    {% endif %}\n{% endfor %}"
    assert Template(source, {}).render([USER, ANSWER]) == ("hi\nyo\n", [])


def test_generation_marks_give_ranges_and_leave_no_trace() -> None:
    source = (
        "{% for m in messages %}[{% if m.role == 'assistant' %}{%- generation -%}{{ m.content }}!{% endgeneration %}"
        "{% else %}{{ m.content }}{% endif %}]{% endfor %}"
    )
    template = Template(source, {})
    assert template.has_generation_marks
    text, ranges = template.render([USER, ANSWER, USER, ANSWER])
    assert text == "[hi][yo!][hi][yo!]"
    assert [text[s:e] for s, e in ranges] == ["yo!", "yo!"]
    assert ranges[1][0] > ranges[0][1]


def test_a_content_cannot_pose_as_the_border_of_a_block() -> None:
    template = Template("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %};{% endfor %}", {})
    nasty = {"role": "assistant", "content": "a\ue0000\ue001b\ue0020\ue001c"}
    text, ranges = template.render([nasty])
    assert text == nasty["content"] + ";"
    assert ranges == [(0, len(nasty["content"]))]


def test_the_word_generation_elsewhere_is_no_mark() -> None:
    assert not Template("{% if add_generation_prompt %}generation{% endif %}", {}).has_generation_marks


def test_marks_tools_and_helpers_are_seen() -> None:
    source = "{{ bos_token }}{% for t in tools %}{{ t | tojson }}{% endfor %}{{ strftime_now('%Y')|length }}{{ messages[0].content }}"
    assert Template(source, {"bos_token": "<s>"}).render([USER], tools=[{"b": "é<", "a": 1}])[0] == '<s>{"b": "é<", "a": 1}4hi'


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
