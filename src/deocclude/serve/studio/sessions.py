"""Open photos of the studio: a bounded number and size, each with its state, an unguessable id and a time-out."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from deocclude.people.editing import EditingState
from deocclude.serve.studio.errors import StateGoneError, UnknownPhotoError
from deocclude.types import Result

MAX_FORMER_STATES = 50  # of one photo, for undoing
MAX_FORMER_BYTES = 128 * 2**20  # of the former states of a session, for undo


class Session:
    """One open photo. Each step replaces its state, and changes none.

    Former states are kept for undoing, as many as MAX_FORMER_STATES and MAX_FORMER_BYTES allow. They share the objects
    that did not change; the bytes of a state are those that its step added.
    """

    def __init__(self, session_id: str, name: str, state: EditingState) -> None:
        """An open photo.

        Args:
            session_id: of `new_id`.
            name: of the photo's file, for the names of downloads.
            state: everyone as completed.
        """
        self.id, self.name, self.state = session_id, name, state
        self._added_bytes = self._remembered = 0
        self._former: OrderedDict[str, tuple[EditingState, int]] = OrderedDict()

    @property
    def result(self) -> Result:
        """Everyone as completed last."""
        return self.state.result

    def take(self, state: EditingState, added_bytes: int) -> None:
        """Replace the state by that after a step. added_bytes: what it takes beyond the state before."""
        self.state, self._added_bytes = state, self._added_bytes + added_bytes

    def remember(self) -> str:
        """Keep the present state for `former`; returns its token."""
        self._remembered += 1
        token = str(self._remembered)
        self._former[token] = (self.state, self._added_bytes)
        self._added_bytes = 0
        while len(self._former) > 1 and self._exceeds_limits():
            self._former.popitem(last=False)
        return token

    def former(self, token: str) -> EditingState:
        """The state of a token. Raises StateGoneError."""
        if token not in self._former:
            raise StateGoneError
        return self._former[token][0]

    def _exceeds_limits(self) -> bool:
        size = sum(added for _, added in self._former.values())
        return len(self._former) > MAX_FORMER_STATES or size > MAX_FORMER_BYTES

    @property
    def pixels(self) -> int:
        """Pixels of the photo; the memory of a session grows with them."""
        height, width = self.state.photo.shape[:2]
        return int(height * width)


def new_id() -> str:
    """An id that cannot be guessed."""
    return secrets.token_urlsafe(24)


class Sessions:
    """All open photos. The one that was not used for longest is closed where another needs its place."""

    def __init__(
        self, max_open: int = 16, max_pixels: int = 100_000_000, timeout_s: float = 1800.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """Limits.

        Args:
            max_open: photos open at once, at least 1.
            max_pixels: pixels of all open photos together; a single larger photo is open alone.
            timeout_s: a photo that was not used for so long is closed, when another request comes.
            clock: seconds.
        """
        self._max_open, self._max_pixels, self._timeout_s, self._clock = max_open, max_pixels, timeout_s, clock
        self._open: OrderedDict[str, tuple[Session, float]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def ids(self) -> frozenset[str]:
        """Ids of all open photos."""
        with self._lock:
            return frozenset(self._open)

    def keep(self, session: Session) -> None:
        """Keep an open photo."""
        with self._lock:
            self._expire()
            self._open[session.id] = (session, self._clock())
            while len(self._open) > 1 and self._exceeds_limits():
                self._open.popitem(last=False)

    def get(self, session_id: str) -> Session:
        """The open photo of an id. Raises UnknownPhotoError."""
        with self._lock:
            self._expire()
            if session_id not in self._open:
                raise UnknownPhotoError
            session = self._open[session_id][0]
            self._open[session_id] = (session, self._clock())
            self._open.move_to_end(session_id)
        return session

    def close(self, session_id: str) -> None:
        """Close a photo. Raises UnknownPhotoError."""
        with self._lock:
            if self._open.pop(session_id, None) is None:
                raise UnknownPhotoError

    def _exceeds_limits(self) -> bool:
        pixels = sum(session.pixels for session, _ in self._open.values())
        return len(self._open) > self._max_open or pixels > self._max_pixels

    def _expire(self) -> None:
        """Close what timed out; photos are in the order of their last use."""
        now = self._clock()
        while self._open and now - next(iter(self._open.values()))[1] > self._timeout_s:
            self._open.popitem(last=False)
