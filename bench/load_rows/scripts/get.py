"""One GET with one check."""

from perfloop.load.script import User


async def visit(user: User) -> None:
    reply = await user.get("/")
    user.check("is 200", reply.status == 200)
