"""Resumes: sends clients that come back what they have missed, then connects their sessions.

A client that comes back with a position is first sent what its user has missed, replayed from the
runs routed last (``core.replay``). Replays take turns with the rest of the server, in the order in
which the clients came. Meanwhile the router goes on, and a replay follows it. In the very turn of
the event loop in which a replay reaches the router's position, the session is connected to the
follow graph: it misses nothing, and it gets nothing twice.

What is no longer kept in memory is replayed from the journal first, if there is one
(``journal_replay``). If a replay falls behind what is kept, its session is ended (``behind``): the
client can come back, and then learns that it has missed something.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from enum import StrEnum

import gevent
import structlog

from maze.core import (
    REACHED,
    BehindError,
    FollowGraph,
    Position,
    Recent,
    Replay,
    position_line,
)
from maze.journal.journal import (
    AheadError,
    JournalError,
    OtherEpochError,
    TrimmedError,
    UnavailableError,
)
from maze.pipeline.implementation import Outbox, QueuedMemory
from maze.pipeline.journal_blocks import JournalBlocks
from maze.pipeline.journal_replay import JournalReplay
from maze.pipeline.positions import payload_of
from maze.pipeline.session import CloseReason, Session
from maze.pipeline.turns import Turns
from maze.settings.options import Settings

log = structlog.get_logger()

STEP_EVENTS = 10_000
"""Maximum events inspected per step (compiled 0.06 ms, pure 2 ms)."""

RETRY_SECONDS = 0.5
"""Time after which the server tries again to read a journal that could not be read."""

STEP_BYTES = 64 * 1024
"""Maximum bytes queued per step, a little more than one send carries."""


class ResumeOutcome(StrEnum):
    """How the resume of a client ended."""

    RESUMED = "resumed"
    """The client got everything that it had missed."""
    MISSED = "missed"
    """Its position was no longer kept, of another epoch, or ahead: the answer was ``!``."""
    BEHIND = "behind"
    """The client was too slow: what it missed was dropped before it was sent."""
    LEFT = "left"
    """The connection ended before everything was sent."""


class Resumes:
    """The clients that came back and have not got everything yet.

    ``present`` returns the position after everything routed so far. ``connect`` connects a session
    to the follow graph, and answers ``!`` if its second argument is true. ``flush`` sends
    what is queued for sessions. ``pause`` is called before each turn of a replay, and may wait.
    """

    def __init__(
        self,
        settings: Settings,
        recent: Recent,
        graph: FollowGraph,
        queued_memory: QueuedMemory,
        *,
        present: Callable[[], Position],
        connect: Callable[[Session, bool], None],
        flush: Callable[[Sequence[Outbox]], None],
        pause: Callable[[], object],
    ) -> None:
        self._recent = recent
        self._graph = graph
        self._present = present
        self._connect = connect
        self._flush = flush
        self._replays: dict[Session, Replay | JournalReplay | None] = {}
        """The replay of every client that resumes; None before its first turn."""
        self.turns = Turns(settings, queued_memory, self._serve, pause)
        # Reading the journal waits, so those who need it have turns of their own.
        self.journal_turns = Turns(settings, queued_memory, self._serve_from_journal, pause)
        self.may_reach: Callable[[Position, float], bool] = lambda position, since: False
        """Whether a position that is ahead may still be reached, as far as is known of the journal
        since a time (by the monotonic clock). Only an edge can be behind what clients know."""
        self._held: dict[Session, Position] = {}
        """Sessions whose position is ahead and may be reached."""
        self.blocks: JournalBlocks | None = None
        """The journal's blocks, if there is a journal."""
        self.outcomes: Counter[ResumeOutcome] = Counter()

    def __len__(self) -> int:
        return len(self._replays)

    def begin(self, session: Session) -> None:
        """Resume a session from its position."""
        self._replays[session] = None
        self.turns.add(session)

    def on_advance(self) -> None:
        """Called when more was routed, or more is known of the journal: go on with those held."""
        present = self._present()
        for session, position in list(self._held.items()):
            if position <= present or not self.may_reach(position, session.opened_at):
                del self._held[session]
                self.turns.add(session)

    def on_progress(self, session: Session) -> None:
        """Called when a session has sent something or has ended: a replay may go on."""
        self.turns.on_progress(session)
        self.journal_turns.on_progress(session)

    def on_flush(self) -> None:
        """Called when sessions have been flushed: a replay may go on."""
        self.turns.on_flush()
        self.journal_turns.on_flush()

    def remove(self, session: Session) -> None:
        """Remove a session that has ended; do nothing if it does not resume."""
        if session in self._replays:
            self._end(session, ResumeOutcome.LEFT)
        self.on_progress(session)  # it held memory for which others wait

    def begin_epoch(self) -> None:
        """Connect all sessions: what they have missed is of an epoch that has ended.

        Those whose position is of the new one, or of a later one, get their turn.
        """
        epoch = self._present().epoch
        for session, replay in list(self._replays.items()):
            position = session.position
            assert position is not None
            if replay is not None or position.epoch < epoch:
                self._miss(session)

    def withdraw(self) -> list[Session]:
        """End all replays, because what they need is dropped; leave the sessions unconnected.

        Return those to which nothing was sent: their position can be answered later.
        """
        unanswered = [session for session in self._replays if not session.pushed_bytes]
        for session in list(self._replays):
            if session.pushed_bytes:
                self._end(session, ResumeOutcome.MISSED)
        self._replays.clear()
        self._held.clear()
        for turns in (self.turns, self.journal_turns):
            turns.clear()  # who begins again is added again
        return unanswered

    def _serve(self, session: Session, room: int) -> bool:
        """Replay the next part from memory; return whether there is more."""
        if session not in self._replays:
            return False
        replay = self._replays[session]
        if replay is None:
            return self._open(session)
        assert isinstance(replay, Replay)
        try:
            missed = replay.step(STEP_EVENTS, min(room, STEP_BYTES))
        except BehindError:
            self._fall_behind(session, replay)
            return False
        self._queue(session, missed)
        if replay.is_complete:
            self._end(session, ResumeOutcome.RESUMED)
            self._connect(session, False)
        self._flush([session])
        return session in self._replays

    def _open(self, session: Session) -> bool:
        """Answer a client's position; return whether its replay can begin in memory."""
        present, position = self._present(), session.position
        assert position is not None
        if position > present and self.may_reach(position, session.opened_at):
            self._held[session] = position
        elif position.epoch != present.epoch or position > present:
            self._miss(session)
        elif position.next >= self._recent.kept_from:
            self._queue(session, position_line(REACHED, position))
            following = self._graph.following(session.user)
            self._replays[session] = Replay(self._recent, session.user, following, position.next)
            return True
        elif self.blocks is None:
            self._miss(session)
        else:
            self._read_journal(session, position, None)
        return False

    def _read_journal(
        self, session: Session, position: Position, following: Collection[int] | None
    ) -> None:
        """Replay from the journal; ``following`` is whom the user followed at the position."""
        assert self.blocks is not None
        self._replays[session] = JournalReplay(
            self.blocks, self._recent, session.user, position, following=following
        )
        self.journal_turns.add(session)

    def _serve_from_journal(self, session: Session, room: int) -> bool:
        """Replay the next part from the journal; return whether there is more in it."""
        assert self.blocks is not None
        has_more = False
        try:
            replay = self._replays.get(session)
            if isinstance(replay, JournalReplay):
                self._step_from_journal(session, replay, room)
                has_more = self._replays.get(session) is replay
        finally:
            if not has_more and self.journal_turns.is_empty:
                self.blocks.clear()
        return has_more

    def _step_from_journal(self, session: Session, replay: JournalReplay, room: int) -> None:
        try:
            if replay.goes_back:
                self._go_back(session, replay)
            else:
                self._read(session, replay, room)
        except (BehindError, JournalError) as error:
            if self._replays.get(session) is replay:  # it has not ended while the journal was read
                self._on_journal_error(session, error)

    def _on_journal_error(self, session: Session, error: BehindError | JournalError) -> None:
        about = {"user": session.user, "client": session.peer, "error": str(error)}
        if isinstance(error, UnavailableError):  # the others that need the journal wait as well
            log.warning("resume_delayed", **about)
            gevent.sleep(RETRY_SECONDS)
            return
        if isinstance(error, JournalError):
            log.error("resume_failed", **about)
        self._give_up(session)

    def _go_back(self, session: Session, replay: JournalReplay) -> None:
        """Go back one step; answer the position once it is known whom the user followed there."""
        assert session.position is not None
        try:
            replay.go_back(self._graph)
        except (TrimmedError, OtherEpochError, AheadError):
            if self._replays.get(session) is not replay:
                return
            if session.pushed_bytes:
                self._give_up(session)
            else:
                self._miss(session)
            return
        is_ready = self._replays.get(session) is replay and not replay.goes_back
        if is_ready and not session.pushed_bytes:
            self._queue(session, position_line(REACHED, session.position))

    def _read(self, session: Session, replay: JournalReplay, room: int) -> None:
        """Queue the next part; go on in memory once the rest is there."""
        missed = replay.step(min(room, STEP_BYTES))
        if self._replays.get(session) is not replay:  # it has ended while the journal was read
            return
        self._queue(session, missed)
        if replay.is_complete:
            self._replays[session] = Replay(
                self._recent, session.user, replay.following, replay.next, goes_back=False
            )
            # At once, before events that it needs may be dropped from memory.
            if self._serve(session, max(1, room - len(missed))):
                self.turns.add(session)
        self._flush([session])

    def _queue(self, session: Session, data: bytes) -> None:
        if data:
            session.push(payload_of(data))

    def _miss(self, session: Session) -> None:
        """Connect a session that cannot get what it has missed."""
        self._end(session, ResumeOutcome.MISSED)
        self._connect(session, True)
        self._flush([session])

    def _fall_behind(self, session: Session, replay: Replay) -> None:
        """Read in the journal what is no longer kept in memory; without one, end the session."""
        epoch = self._present().epoch
        if self.blocks is None:
            self._give_up(session)
        else:
            following = None if replay.goes_back else replay.following
            self._read_journal(session, Position(epoch, replay.next), following)

    def _give_up(self, session: Session) -> None:
        """End a session because what it needs is no longer kept."""
        if session in self._replays:
            self._end(session, ResumeOutcome.BEHIND)
            session.close(CloseReason.BEHIND)

    def _end(self, session: Session, outcome: ResumeOutcome) -> None:
        del self._replays[session]
        self._held.pop(session, None)
        self.outcomes[outcome] += 1
        log.debug("resume_ended", user=session.user, client=session.peer, outcome=outcome.value)
