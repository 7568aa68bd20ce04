"""Contexts as Prefect's parameters: JSON, which people may read and edit in its pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from mahavishnu.errors import ContextError
from mahavishnu.workflows.encoding import decode_context, encode_context

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mahavishnu.workflows.registry import Workflow

__all__ = ["json_context"]


def json_context(workflow: Workflow, context: Mapping[str, object]) -> dict[str, Any]:
    """Return a context as JSON data that binds to the same arguments.

    Raises:
        ContextError: It does not fit the workflow, cannot be sent to another process, or JSON would change it.
    """
    workflow.bind(context)
    sent = decode_context(encode_context(workflow.key, context))
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(sent))
    # Times and bytes become text: annotated parameters turn it back, others would get the text.
    if workflow.bind(plain) != workflow.bind(sent):
        raise ContextError(workflow.key, "to Prefect it goes as JSON, which changes a value; annotate its parameter")
    return plain
