import pytest

from luthier.chat.template import Template
from luthier.core.errors import InvalidRequest
from tests.support.template_families import FAMILIES, Family, renderer_of

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


FORWARD = {
    "luthier-mini", "chatml", "gemma", "granite-3", "hermes", "llama-2", "llama-3", "marked-chatml", "mistral", "opened-thought", "phi-3",
    "phi-4-mini", "plain-words", "smollm2", "smollm3", "zephyr",
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_borders_stand_where_shorter_talks_end(family: Family) -> None:
    source = renderer_of(family.name).template_source
    assert source is not None
    template = Template(source, {"bos_token": "<s>", "eos_token": "</s>"})
    talk = [{"role": "system", "content": "s"}, USER, ANSWER, {"role": "user", "content": "so?"}, ANSWER]
    for messages in (talk, talk[1:]):
        text, borders = template.render_with_borders(messages)
        assert text == template.render(messages)
        assert (borders is not None) == (family.name in FORWARD)
        if borders is None:
            continue
        before = len(messages) - (len(borders) - 1)
        assert before in (0, 1)
        openings = set()
        for i in range(max(before, 1), len(messages)):
            border = borders[i - before]
            assert text[:border] == template.render(messages[:i])
            if messages[i]["role"] == "assistant":
                prompt = template.render(messages[:i], add_generation_prompt=True)
                assert prompt[:border] == text[:border]
                openings.add(prompt[border:])
        assert len(openings) == 1


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}{{ m.content if loop.last else '' }}{% endfor %}",
        "{% for m in messages %}{{ loop.nextitem }}{% endfor %}",
        "{% for m in messages %}{{ messages[loop.index0] }}{% endfor %}",
        "{% for m in messages %}{{ add_generation_prompt }}{% endfor %}",
        "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}",
        "{{ messages[-1].content }}{% for m in messages %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content }}{% endfor %}{{ messages[0].content }}",
        "{% for m in messages %}{{ m.content }}{% endfor %}{% for m in messages %}{{ m.content }}{% endfor %}",
        "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{% break %}{% endfor %}",
        "{% for m in messages | reverse %}{{ m.content }}{% endfor %}",
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
        "{% set all = messages %}{% for m in messages %}{{ all | length }}{% endfor %}",
        "{% for m in messages %}{% for c in m.calls %}{{ loop.last }}{% endfor %}{% for c in [loop.last] %}{{ c }}{% endfor %}{% endfor %}",
        "{% macro f() %}{% endmacro %}{% for m in messages %}{{ m.content }}{% endfor %}",
        "{% if true %}{% for m in messages %}{{ m.content }}{% endfor %}{% endif %}",
    ],
)
def test_what_may_look_ahead_has_no_borders(source: str) -> None:
    assert Template(source, {}).render_with_borders([USER, ANSWER])[1] is None
