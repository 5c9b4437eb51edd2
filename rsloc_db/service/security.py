"""Who may ask and who may write: looked at before anything of a request's body is read."""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rsloc_db.service.options import ServiceOptions, is_loopback

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Sent with every answer: the page runs its own code alone, asks its own service alone, and cannot be framed."""


class Guard:
    """ASGI middleware: refuses other hosts' names, other sites' pages and, where there is a token, all without it.

    On the loopback only the loopback's names are taken, so that no site can lead its own name here (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, options: ServiceOptions) -> None:
        self.app, self.options = app, options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refused request, pass on any other."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope["method"], Headers(scope=scope))
        if refusal is not None:
            await _with_headers(refusal, scope, receive, send)
            return
        await _with_headers(self.app, scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "")
        if not self._is_known(host):
            return _refuse(403, "the service does not go by that name: see rsloc-db serve --allow-host")
        if method in SAFE_METHODS:
            return None
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return _refuse(403, "another site's page may not write here")
        return None if self._has_token(headers) else _refuse(401, "the token is missing or wrong")

    def _is_known(self, host: str) -> bool:
        name = urlsplit(f"//{host}").hostname or ""
        allowed = self.options.hosts
        if "*" in allowed or name in (*allowed, self.options.host.strip("[]")) or is_loopback(name):
            return True
        return not self.options.is_loopback and not allowed

    def _has_token(self, headers: Headers) -> bool:
        if self.options.token is None:
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and secrets.compare_digest(given.strip().encode(), self.options.token.encode())


def _refuse(code: int, detail: str) -> JSONResponse:
    headers = {"WWW-Authenticate": "Bearer"} if code == 401 else None
    return JSONResponse({"detail": detail}, status_code=code, headers=headers)


async def _with_headers(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    await app(scope, receive, sending)
