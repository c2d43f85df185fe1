"""An SMTP server for tests: prints its port, then each message as a line of JSON."""

import argparse
import asyncio
import email
import email.policy
import json
import ssl

from aiosmtpd.smtp import SMTP, AuthResult

options = argparse.ArgumentParser()
options.add_argument("--port", type=int, default=0)
options.add_argument("--tls", choices=["none", "starttls", "tls"], default="none")
options.add_argument("--certificate")
options.add_argument("--key")
options.add_argument("--user")
options.add_argument("--password")
options.add_argument("--busy", type=int, default=0, help="turn so many messages away first")
options = options.parse_args()


def body(message, kind):
    part = message.get_body((kind,))
    return part.get_content() if part else None


class Handler:
    def __init__(self):
        self.busy = options.busy

    async def handle_DATA(self, server, session, envelope):
        if self.busy > 0:
            self.busy -= 1
            return "451 come back later"
        if any(to.startswith("nobody@") for to in envelope.rcpt_tos):
            return "550 there is no such mailbox"
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        line = {
            "from": message["from"],
            "to": envelope.rcpt_tos,
            "subject": message["subject"],
            "text": body(message, "plain"),
            "html": body(message, "html"),
            "id": message["message-id"],
            "headers": sorted({name.lower() for name in message.keys()}),
            "encrypted": options.tls == "tls" or session.ssl is not None,
            "authenticated": session.authenticated,
        }
        print(json.dumps(line), flush=True)
        return "250 taken"


def authenticate(server, session, envelope, mechanism, data):
    right = (
        getattr(data, "login", b"").decode() == options.user
        and getattr(data, "password", b"").decode() == options.password
    )
    return AuthResult(success=right, handled=False)


async def main():
    context = None
    if options.tls != "none":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.key)
    settings = {}
    if options.user:
        settings.update(authenticator=authenticate, auth_required=True)
    if options.tls == "starttls":
        settings.update(tls_context=context, require_starttls=True)
    elif options.user:
        settings.update(auth_require_tls=False)
    handler = Handler()
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(handler, hostname="localhost", **settings),
        "127.0.0.1",
        options.port,
        ssl=context if options.tls == "tls" else None,
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
