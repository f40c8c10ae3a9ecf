"""What happens around every call, on the server and on the client.

Not grpc.aio interceptors: those cost a coroutine and an object per interceptor and call. The server's steps are
composed into one wrapper per method when the server is built (`server.Pipeline`), the client's into one per
multicallable (`client.Channel`); `libs/kit/bench` measures them against bare grpc.aio.
"""
