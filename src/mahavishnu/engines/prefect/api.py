"""The one way to Prefect's API: bounded in time, never an ephemeral server, one clear error."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit, urlunsplit

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.settings import (
    PREFECT_API_KEY,
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_SERVER_EPHEMERAL_ENABLED,
    get_current_settings,
    temporary_settings,
)

from mahavishnu.errors import EngineError, EngineUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from prefect.client.orchestration import PrefectClient
    from prefect.settings.context import SettingKey

    from mahavishnu.model.secret import Secret

__all__ = ["API_TIMEOUT", "connect"]

API_TIMEOUT = timedelta(seconds=30)
"""How long one conversation with the server may take, by default."""

_REQUEST_SECONDS = 10.0
_MAX_RETRIES = 2
_DETAIL_CHARACTERS = 500
_REMEDY = "check PREFECT_API_URL, or start a local server with `mahavishnu up`"


@asynccontextmanager
async def connect(
    api_url: str | None = None, *, api_key: Secret | None = None, timeout: timedelta = API_TIMEOUT
) -> AsyncGenerator[PrefectClient]:
    """Open a client for the duration of a block.

    Args:
        api_url: The server's address, ending in `/api`; by default Prefect's own setting (`PREFECT_API_URL`).
        api_key: The key that goes with it; by default Prefect's own setting (`PREFECT_API_KEY`).
        timeout: How long the whole block may take; 30 s by default.

    Raises:
        EngineUnavailableError: There is no address, or no answer; with the address tried.
        EngineError: The server refused a call; with its reason.
    """
    url = api_url or get_current_settings().api.url
    if not url:
        raise EngineUnavailableError("prefect", "no server's address is set", _set_remedy())
    # Prefect's defaults (60 s a request, six tries) keep a caller of a silent server for six minutes.
    limits: dict[SettingKey, Any] = {
        PREFECT_API_URL: url,
        PREFECT_SERVER_EPHEMERAL_ENABLED: False,
        PREFECT_API_REQUEST_TIMEOUT: _REQUEST_SECONDS,
        PREFECT_CLIENT_MAX_RETRIES: _MAX_RETRIES,
    }
    if api_key:
        limits[PREFECT_API_KEY] = api_key.reveal()
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            with temporary_settings(updates=limits):
                async with get_client() as client:
                    yield client
    except TimeoutError as exc:
        raise _unavailable(url, f"no answer within {timeout.total_seconds():.0f} s") from exc
    except httpx.HTTPStatusError as exc:
        raise _refused(url, exc) from exc
    except httpx.HTTPError as exc:
        raise _unavailable(url, f"{type(exc).__name__}: {exc}") from exc
    except RuntimeError as exc:
        if "Failed to reach API" not in str(exc):
            raise
        raise _unavailable(url, "it cannot be reached") from exc
    except PrefectException as exc:
        raise EngineError(f"Prefect at {_shown(url)}: {exc}") from exc


def _set_remedy() -> str:
    return "set PREFECT_API_URL, or start a local server with `mahavishnu up`"


def _unavailable(url: str, problem: str) -> EngineUnavailableError:
    return EngineUnavailableError("prefect", f"the server at {_shown(url)} does not answer ({problem})", _REMEDY)


def _refused(url: str, error: httpx.HTTPStatusError) -> EngineError:
    status = error.response.status_code
    if status in (401, 403):
        return EngineUnavailableError(
            "prefect",
            f"the server at {_shown(url)} does not let us in ({status})",
            "set PREFECT_API_AUTH_STRING or PREFECT_API_KEY",
        )
    if status >= 500:
        return EngineUnavailableError("prefect", f"the server at {_shown(url)} failed ({status})", "see its log")
    return EngineError(f"Prefect at {_shown(url)} refused ({status}): {_detail(error.response)}")


def _detail(response: httpx.Response) -> str:
    try:
        body: object = response.json()
    except ValueError:
        body = response.text
    if isinstance(body, dict):
        fields = cast("dict[str, object]", body)
        body = fields.get("detail") or fields.get("exception_detail") or fields
    return str(body)[:_DETAIL_CHARACTERS]


def _shown(url: str) -> str:
    """Return the address without credentials."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
