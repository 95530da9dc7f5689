"""What OpenAI's two APIs share: keys, error bodies, failures, headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .formats import Account, Json, Refusal
from .turns import Request

_LIMIT: Final = 10_000


class OpenAIErrors:
    """Errors as https://platform.openai.com/docs/guides/error-codes describes them."""

    @property
    def base_path(self) -> str:
        return "/v1"

    def api_key(self, headers: Mapping[str, str], path: str) -> str:
        return headers.get("authorization", "").removeprefix("Bearer ").strip()

    def account_refusal(self, request: Request, account: Account) -> Refusal | None:
        """Return what is wrong with the key or the model; the key first, as the API does it."""
        if account.api_keys is not None and request.api_key not in account.api_keys:
            # https://github.com/openai/openai-python/issues/456; the key itself is not repeated here.
            message = (
                "Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys."
            )
            return Refusal(status=401, message=message, code="invalid_api_key")
        if not request.model:
            return Refusal(message="you must provide a model parameter")
        if account.models is not None and request.model not in account.models:
            message = f"The model `{request.model}` does not exist or you do not have access to it."
            return Refusal(status=404, message=message, code="model_not_found", param="model")
        return None

    def error_body(self, refusal: Refusal, number: int) -> Json:
        error = {"message": refusal.message, "type": refusal.kind, "param": refusal.param, "code": refusal.code}
        return {"error": error}

    def failure(self, kind: str) -> Refusal:
        if kind == "rate_limit":
            message = "Rate limit reached for requests. Please try again later."
            return Refusal(status=429, message=message, kind="requests", code="rate_limit_exceeded")
        if kind == "server_error":
            message = "The server had an error while processing your request. Sorry about that!"
            return Refusal(status=500, message=message, kind="server_error")
        message = "The engine is currently overloaded, please try again later."
        return Refusal(status=503, message=message, kind="server_error")

    def unknown_path(self, path: str) -> Refusal:
        return Refusal(status=404, message=f"Invalid URL (POST {path})")

    def headers(self, number: int) -> Mapping[str, str]:
        return {
            "x-request-id": f"req_{number}",
            "x-ratelimit-limit-requests": str(_LIMIT),
            "x-ratelimit-remaining-requests": str(max(0, _LIMIT - number)),
            "x-ratelimit-reset-requests": "6ms",
        }
