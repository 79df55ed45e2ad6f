"""Identifiers in the shapes that OpenAI's clients expect (users match them with regular expressions).

What it does: makes random ids. What it does not: look anything up. Called by api, jobs, storage and worker.
"""

import base64
import secrets
import string

_BASE62 = string.digits + string.ascii_letters


def _random_base62(length: int) -> str:
    return "".join(secrets.choice(_BASE62) for _ in range(length))


def new_file_id() -> str:
    """``file-`` and 22 base-62 characters."""
    return "file-" + _random_base62(22)


def new_upload_id() -> str:
    """``upload_`` and 32 hexadecimal characters."""
    return "upload_" + secrets.token_hex(16)


def new_part_id() -> str:
    """``part_`` and 32 hexadecimal characters."""
    return "part_" + secrets.token_hex(16)


def new_job_id() -> str:
    """``ftjob-`` and 24 base-62 characters."""
    return "ftjob-" + _random_base62(24)


def new_event_id() -> str:
    """``ftevent-`` and 24 base-62 characters."""
    return "ftevent-" + _random_base62(24)


def new_checkpoint_id() -> str:
    """``ftckpt_`` and 24 base-62 characters."""
    return "ftckpt_" + _random_base62(24)


def new_permission_id() -> str:
    """``cp_`` and 24 base-62 characters."""
    return "cp_" + _random_base62(24)


def new_chat_completion_id() -> str:
    """``chatcmpl-`` and 29 base-62 characters."""
    return "chatcmpl-" + _random_base62(29)


def new_completion_id() -> str:
    """``cmpl-`` and 29 base-62 characters."""
    return "cmpl-" + _random_base62(29)


def new_tool_call_id() -> str:
    """``call_`` and 24 base-62 characters."""
    return "call_" + _random_base62(24)


def new_response_id() -> str:
    """``resp_`` and 48 hexadecimal characters."""
    return "resp_" + secrets.token_hex(24)


def new_message_id() -> str:
    """``msg_`` and 48 hexadecimal characters."""
    return "msg_" + secrets.token_hex(24)


def new_function_item_id() -> str:
    """``fc_`` and 48 hexadecimal characters: a function call, or its output, among a response's items."""
    return "fc_" + secrets.token_hex(24)


def new_request_id() -> str:
    """``req_`` and 32 hexadecimal characters."""
    return "req_" + secrets.token_hex(16)


def new_model_suffix_id() -> str:
    """The eight base-62 characters that end a fine-tuned model's name."""
    return _random_base62(8)


def new_api_key() -> str:
    """``sk-luthier-`` and 40 base-62 characters (238 bits)."""
    return "sk-luthier-" + _random_base62(40)


def new_api_key_id() -> str:
    """``key_`` and 24 base-62 characters: names a key without telling it."""
    return "key_" + _random_base62(24)


def new_session_id() -> str:
    """``sess_`` and 32 base-62 characters (190 bits)."""
    return "sess_" + _random_base62(32)


def new_project_id() -> str:
    """``proj_`` and 24 base-62 characters."""
    return "proj_" + _random_base62(24)


def new_owner_id() -> str:
    """Names one running process as the holder of leases."""
    return "owner-" + secrets.token_hex(8)


def new_batch_id() -> str:
    """``batch_`` and 32 hexadecimal characters."""
    return "batch_" + secrets.token_hex(16)


def new_batch_request_id() -> str:
    """``batch_req_`` and 32 hexadecimal characters: one line of a batch's output."""
    return "batch_req_" + secrets.token_hex(16)


def new_dataset_task_id() -> str:
    """``dstask-`` and 24 base-62 characters."""
    return "dstask-" + _random_base62(24)


def new_webhook_id() -> str:
    """``wh_`` and 32 hexadecimal characters: a webhook endpoint, or one delivery (the ``webhook-id`` header)."""
    return "wh_" + secrets.token_hex(16)


def new_webhook_event_id() -> str:
    """``evt_`` and 32 hexadecimal characters."""
    return "evt_" + secrets.token_hex(16)


def new_webhook_secret() -> str:
    """``whsec_`` and the base64 of 24 random bytes, which needs no padding."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode("ascii")
