"""What a template writes around contents is taken for granted only where it cannot have looked into them."""

import pytest

from luthier.chat.habits import Habits
from luthier.chat.opaque import Looked
from luthier.chat.skeleton import Skeleton, Skeletons
from luthier.chat.template import Template
from luthier.core.conversation import Role

MARKS = ("<m>", "<end>")
TALK = (Role.SYSTEM, Role.USER, Role.ASSISTANT)


def _skeleton(message: str, *, before: str = "", marks: tuple[str, ...] = MARKS) -> Skeleton | None:
    """That of a template that writes each message so."""
    source = before + "{% for m in messages %}<m>{{ m.role }}\n" + message + "<end>{% endfor %}<m>"
    try:
        return Skeletons(source, {"bos_token": "<s>"}, Habits(Template(source, {"bos_token": "<s>"})), marks).find(TALK)
    except Looked:
        return None


PLAIN = ("<m>system\n", "<end><m>user\n", "<end><m>assistant\n", "<end><m>")


@pytest.mark.parametrize(
    "message",
    [
        "{{ m.content }}",
        "{{ m['content'] | trim }}",
        "{{ m.get('content').strip() }}",
        "{% set c = m.content if m.content is string else '' %}{{ '' + c ~ '' }}",
        "{% if m.content %}{{ m.content }}{% endif %}",
        "{% if m.content is defined and m.content is not none %}{{ m.content or 'nothing' }}{% endif %}",
        "{% set ns = namespace(c='') %}{% set ns.c = ns.c + m.content %}{{ ns.c }}",
        "{{ (messages | selectattr('role', 'equalto', m.role) | list | first).content }}",
        "{% if loop.index0 % 2 == 0 and ' a'.strip() == 'a' %}{% endif %}{{ m.content }}",
        "{% if m.tool_calls is defined %}{{ m | tojson }}{% endif %}{{ m.content }}",
    ],
)
def test_what_stands_around_contents_is_found(message):
    found = _skeleton(message)
    assert found is not None
    assert (found.literals, found.forbidden) == (PLAIN, ())


@pytest.mark.parametrize(
    "message",
    [
        "{{ m.content.split('</t>')[-1].lstrip('\n') }}",
        "{% if '</t>' in m.content %}thought{% endif %}{{ m.content }}",
        "{% if '</t>' not in m.content %}{{ m.content }}{% endif %}",
        "{% if not m.content.startswith('</t>') %}{{ m.content }}{% endif %}",
        "{{ m.content.replace('</t>', '') }}",
    ],
)
def test_what_a_content_must_not_hold_is_noted(message):
    found = _skeleton(message)
    assert found is not None
    assert (found.literals, found.forbidden) == (PLAIN, ("</t>",))


@pytest.mark.parametrize(
    "message",
    [
        # Looks at a text.
        "{% if m.content == 'yes' %}!{% endif %}{{ m.content }}",
        "{% if 'yes' == m.content %}!{% endif %}{{ m.content }}",
        "{% if m.content != '' %}{{ m.content }}{% endif %}",
        "{% if m.content > 'a' %}!{% endif %}{{ m.content }}",
        "{% if m.content | length > 9 %}!{% endif %}{{ m.content }}",
        "{% if m.content[0] == 'a' %}!{% endif %}{{ m.content }}",
        "{{ m.content[:99] }}",
        "{{ m.content | upper | lower }}",
        "{{ m.content | replace('yes', 'no') }}",
        "{{ m.content | tojson }}",
        "{{ m.content.upper() }}",
        "{{ m.content.strip('.') }}",
        "{% for c in m.content %}{{ c }}{% endfor %}",
        "{% if m.content in ['yes', 'no'] %}!{% endif %}{{ m.content }}",
        "{% if m.content not in 'yes no' %}!{% endif %}{{ m.content }}",
        "{% if m.content is sequence %}!{% endif %}{{ m.content }}",
        "{% if m.content is upper %}!{% endif %}{{ m.content }}",
        "{% if {'yes': 1}[m.content] is defined %}!{% endif %}{{ m.content }}",
        "{% if 'yes' in m.content + '.' %}!{% endif %}{{ m.content }}",
        "{% if 'yes' in (m.content ~ '') %}!{% endif %}{{ m.content }}",
        "{% if 'yes' in m.values() %}!{% endif %}{{ m.content }}",
        "{% if messages | selectattr('content', 'equalto', 'yes') | list %}!{% endif %}{{ m.content }}",
        # Makes an ordinary text of one, and looks at that.
        "{% set c %}{{ m.content }}{% endset %}{% if 'yes' in c %}!{% endif %}{{ m.content }}",
        "{% macro say(c) %}{{ c }}{% endmacro %}{% if 'yes' in say(m.content) %}!{% endif %}{{ m.content }}",
        "{% filter upper %}{{ m.content }}{% endfilter %}",
        "{% set c = '%s' % m.content %}{% if 'yes' in c %}!{% endif %}{{ c }}",
        "{% set c = '%(content)s' % m %}{% if 'yes' in c %}!{% endif %}{{ c }}",
        "{% set c = '{}'.format(m.content) %}{% if 'yes' in c %}!{% endif %}{{ c }}",
        "{% set c = '{0[content]}'.format(m) %}{% if 'yes' in c %}!{% endif %}{{ c }}",
        "{% set c = ''.join([m.content]) %}{% if 'yes' in c %}!{% endif %}{{ c }}",
        "{% set c = [m.content] | join %}{% if 'yes' in c %}!{% endif %}{{ c }}",
        "{% if 'yes' in (m | string) %}!{% endif %}{{ m.content }}",
        "{% if 'yes' in [m.content] | string %}!{% endif %}{{ m.content }}",
        "{% if 'yes' in ([m] ~ '') %}!{% endif %}{{ m.content }}",
        "{% if 'yes'.endswith((m.content, 's')) %}!{% endif %}{{ m.content }}",
        "{% if range(3) | list | string in m.content %}!{% endif %}{{ m.content }}",
        "{% if 1 < 2 in [m.content] %}!{% endif %}{{ m.content }}",
        # Does not write each once.
        "{{ m.content }}{{ m.content }}",
        "{% if not loop.first %}{{ m.content }}{% endif %}",
    ],
)
def test_a_template_that_may_look_into_contents_has_no_skeleton(message):
    assert _skeleton(message) is None


def test_a_look_counts_in_whatever_part_of_a_talk_it_happens():
    assert _skeleton("{{ m.content }}", before="{% if add_generation_prompt %}{{ messages[0].content | upper }}{% endif %}") is None
    assert _skeleton("{{ m.content }}", before="{% if messages | length == 2 and messages[0].content == 'a' %}{% endif %}") is None
    assert _skeleton("{{ m.content }}", before="{% if messages | length == 1 %}{{ raise_exception('one') }}{% endif %}") is not None


@pytest.mark.parametrize("marks", [("<m>",), ("<m>", "<end>", "user\nHi"), ("<m>", "<end>", "x<end>"), ()])
def test_no_content_may_make_a_mark_with_what_stands_around_it(marks):
    assert _skeleton("{{ m.content }}") is not None
    assert _skeleton("{{ m.content }}", marks=marks) is None


def test_the_last_mark_of_a_literal_is_the_one_that_the_tokenizer_takes():
    skeletons = Skeletons("{{ messages[0].content }}", {}, Habits(Template("", {})), ("<end>", "d>x", "<end", "<m>"))
    openings = {"<end>x": "x", "a d>xy": "y", "<m><end> ": " ", "<end>": "", "no mark": "no mark"}
    assert {literal: skeletons.opening_of(literal) for literal in openings} == openings
