"""The executors' tokens: made here, handed out once by framework message, kept in the ledger as a hash only."""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
import threading

from polly_mesos.errors import Unauthenticated
from polly_mesos.faults import fault_point
from polly_mesos.ledger import Ledger
from polly_mesos.model import Agent


def token_hash(token: str) -> str:
    """SHA-256 of a token, hex: what the ledger keeps."""
    return hashlib.sha256(token.encode()).hexdigest()


class Tokens:
    """Issues and checks executors' tokens."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._issued: dict[str, str] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Tokens({len(self._issued)} issued)"

    def issue(self, agent_id: str) -> str:
        """The agent's token: the same one as long as this process lives, so that a repeated question does no harm.

        :raises UnknownAgent: no such agent
        """
        with self._lock:
            token = self._issued.get(agent_id) or secrets.token_urlsafe(32)
            hashed = token_hash(token)
            # Also for one that was issued before: the agent may have been forgotten and made known again since.
            self._ledger.change_agent(agent_id, lambda agent: dataclasses.replace(agent, token_hash=hashed))
            fault_point("token.issue.after-ledger")
            # Last: a token that the ledger does not have must not be handed out.
            self._issued[agent_id] = token
            return token

    def check(self, token: str) -> Agent:
        """The agent whose executor shows this token.

        :raises Unauthenticated: no executor has it
        """
        agent = self._ledger.agent_by_token(token_hash(token)) if token else None
        if agent is None:
            raise Unauthenticated(
                "the executor's token is missing or unknown", remedy="ask for a new one with a framework message"
            )
        return agent
