"""Bounds of what is sent: a body's size and how long its sending may take."""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

UPLOAD_S = 120.0
"""How long a body may take to come."""
FORM_BYTES = 1 << 20
"""What a form may be larger than the file in it."""


class BodyLimit:
    """ASGI middleware: a body that is too large or comes too slowly is refused, wherever it is read."""

    def __init__(self, app: ASGIApp, most_bytes: int, seconds: float = UPLOAD_S) -> None:
        self.app, self.most_bytes, self.seconds = app, most_bytes + FORM_BYTES, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, its body counted."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        stated = Headers(scope=scope).get("content-length", "0")
        if not stated.isdigit() or int(stated) > self.most_bytes:
            await JSONResponse({"detail": self._too_large()}, status_code=413)(scope, receive, send)
            return
        await self.app(scope, self._counted(receive), send)

    def _too_large(self) -> str:
        return f"at most {(self.most_bytes - FORM_BYTES) / 1e6:,.0f} MB are taken"

    def _counted(self, receive: Receive) -> Receive:
        deadline = time.monotonic() + self.seconds
        seen, complete = 0, False

        async def receiving() -> Message:
            nonlocal seen, complete
            if complete:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(deadline - time.monotonic(), 0.0))
            except TimeoutError:
                raise HTTPException(408, f"the upload took longer than {self.seconds:.0f} seconds") from None
            seen += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if seen > self.most_bytes:
                raise HTTPException(413, self._too_large())
            return message

        return receiving
