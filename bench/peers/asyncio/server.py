"""The server of bench/http_server.cpp in Python with aiohttp. Usage: server.py PORT [CERTIFICATE KEY]; /echo is a WebSocket that echoes."""

import ssl
import sys

from aiohttp import WSMsgType, web


async def hello(request):
    return web.Response(text="hello, world\n")


async def echo(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type == WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type == WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


app = web.Application()
app.add_routes([web.get("/", hello), web.get("/echo", echo)])
context = None
if len(sys.argv) > 3:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), ssl_context=context, access_log=None, print=None)
