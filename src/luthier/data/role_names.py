"""The names that other tools give to the roles of a talk, and the API's own for each.

What it does: one table. What it does not: change rows (``row_cures.py``, ``columns.py``).
"""

from luthier.core.conversation import Role

_OWN = frozenset(role.value for role in Role)
_OTHERS = {
    "human": "user",
    "customer": "user",
    "prompter": "user",
    "question": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "answer": "assistant",
    "agent": "assistant",
    "system_prompt": "system",
}


def role_of(name: str) -> str | None:
    """The API's role for a name of any case, such as ``user`` for ``Human``; None where it is not clear."""
    known = name.strip().lower()
    return known if known in _OWN else _OTHERS.get(known)
