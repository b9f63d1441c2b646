"""The reception of mail: watches a mailbox and sends an event for each mail, once."""

import asyncio
import logging

import msgspec

from flyteops.errors import ConflictError, InputError
from flyteops.packs.email.mailbox import ImapServer, Mail, Mailbox
from flyteops.packs.email.received import ReceivedEmail, read_email
from flyteops.packs.limit import default_length
from flyteops.sdk import EventType, Pack

LOGGER = logging.getLogger("flyte.email")


class MailReceiver(msgspec.Struct, frozen=True, kw_only=True):
    """The watched mailbox: its server, the maximum wait in seconds, and the bytes read of a mail.

    Without a `size_limit`, it follows from the limit of the server.
    """

    server: ImapServer
    poll_interval: float = 60.0
    size_limit: int | None = None

    async def listen(self, pack: Pack, event: EventType[ReceivedEmail]) -> None:
        """Send events for mail as long as the connection holds.

        Raise an error if the mailbox cannot be used.
        """
        box = Mailbox(self.server)
        try:
            await box.open()
            while True:
                # Answers to the calls in between may have reported new mail, so it waits only after
                # it finds none.
                while await self._deliver_unread(box, pack, event):
                    pass
                await box.changed(self.poll_interval, pack.clock().sleep)
        finally:
            box.close()

    async def _deliver_unread(
        self, box: Mailbox, pack: Pack, event: EventType[ReceivedEmail]
    ) -> bool:
        """Send events for the unread mail; return whether there was any."""
        delivered = False
        for uid in await box.unread():
            limit = default_length(pack) if self.size_limit is None else self.size_limit
            mail = await box.fetch(uid, max(limit, 1))
            if mail is None:
                continue
            received = await asyncio.to_thread(
                read_email, mail.content, size=mail.size, received_at=mail.received_at
            )
            await self._deliver(mail, received, pack, event)
            # If the pack ends before this, the mail is sent once more, under the same key, and the
            # server recognizes it.
            await box.mark(uid)
            delivered = True
        return delivered

    async def _deliver(
        self, mail: Mail, received: ReceivedEmail, pack: Pack, event: EventType[ReceivedEmail]
    ) -> None:
        """Send the event.

        One that the server refuses is sent without its large parts, and then left out.
        """
        bare = msgspec.structs.replace(
            received, text="", html="", attachments=[], references=[], truncated=True
        )
        for each in (received, bare):
            try:
                await pack.send(event(each), key=mail.key)
            except (InputError, ConflictError) as error:
                LOGGER.warning(
                    "the server refuses the mail %s: %s", received.message_id or mail.uid, error
                )
            else:
                return
