"""The workloads of bench/workloads.hpp in asyncio.

Usage: workload.py [--uvloop] NAME OPERATIONS [FILE, or ADDRESS of a server]
Prints one JSON line, and fails if the work was not really done. See ../../README.md.
"""

import asyncio
import concurrent.futures
import json
import resource
import sys
import time


def require(done):
    if not done:
        sys.exit("the workload has not done its work")


# ---- W1 spawn and join, batches of 1,000


async def give(n):
    return n


async def spawn_join(operations):
    total = 0
    create_task = asyncio.create_task
    for _ in range(operations // 1000):
        for task in [create_task(give(i)) for i in range(1000)]:
            total += await task
    require(total == operations // 1000 * 499_500)


# ---- W2 cooperative yield, two tasks


async def yield_often(times):
    for _ in range(times):
        await asyncio.sleep(0)
    return times


async def yields(operations):
    a = asyncio.create_task(yield_often(operations // 2))
    b = asyncio.create_task(yield_often(operations // 2))
    require(await a + await b == operations // 2 * 2)


# ---- W3 ping-pong over two events, a round trip


async def pong(ping_event, pong_event, times):
    for _ in range(times):
        await ping_event.wait()
        ping_event.clear()
        pong_event.set()
    return times


async def ping_pong(operations):
    ping_event, pong_event = asyncio.Event(), asyncio.Event()
    other = asyncio.create_task(pong(ping_event, pong_event, operations))
    for _ in range(operations):
        ping_event.set()
        await pong_event.wait()
        pong_event.clear()
    require(await other == operations)


# ---- W4 queue(10), one producer, four consumers


async def consume(queue, sums):
    while True:
        sums[0] += await queue.get()
        queue.task_done()


async def pipeline(operations):
    queue = asyncio.Queue(10)
    sums = [0]
    consumers = [asyncio.create_task(consume(queue, sums)) for _ in range(4)]
    for i in range(operations):
        await queue.put(i)
    await queue.join()
    for consumer in consumers:
        consumer.cancel()
    await asyncio.wait(consumers)
    require(sums[0] == operations * (operations - 1) // 2)


# ---- W5 lock, 100 tasks, a yield inside


async def locked_yields(lock, times, inside):
    for _ in range(times):
        async with lock:
            require(not inside)
            inside.append(1)
            await asyncio.sleep(0)
            inside.pop()
    return times


async def lock_contention(operations):
    lock = asyncio.Lock()
    inside = []
    tasks = [asyncio.create_task(locked_yields(lock, operations // 100, inside)) for _ in range(100)]
    require(sum([await task for task in tasks]) == operations // 100 * 100)


# ---- W6a many sleeping tasks


def resident_bytes():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


async def sleep_a_second():
    await asyncio.sleep(1)


async def sleepers(operations):
    before = resident_bytes()
    tasks = [asyncio.create_task(sleep_a_second()) for _ in range(operations)]
    await asyncio.sleep(0)
    bytes_per_task = (resident_bytes() - before) / operations
    done = 0
    for task in tasks:
        await task
        done += 1
    require(done == operations)
    return {"bytes_per_task": bytes_per_task}


# ---- W6b a timeout that never fires, around one yield


async def timeouts(operations):
    for _ in range(operations):
        async with asyncio.timeout(10) as scope:
            await asyncio.sleep(0)
        require(not scope.expired())


# ---- W7 nested await


async def nested(operations):
    total = 0
    for i in range(operations):
        total += await give(i)
    require(total == operations * (operations - 1) // 2)


# ---- W7r nested awaits, 100 deep, by recursion


async def depth(n):
    return 1 + await depth(n - 1) if n else 0


async def recursion(operations):
    total = 0
    for _ in range(operations // 100):
        total += await depth(99)
    require(total == operations // 100 * 99)


# ---- W8 an item of an async generator


async def count_to(n):
    for i in range(n):
        yield i


async def generate(operations):
    total = 0
    async for i in count_to(operations):
        total += i
    require(total == operations * (operations - 1) // 2)


# ---- W9 a no-op in a thread pool and back


async def thread_round_trips(operations):
    done = 0

    def no_op():
        nonlocal done
        done += 1

    loop = asyncio.get_running_loop()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for _ in range(operations):
            await loop.run_in_executor(pool, no_op)
    require(done == operations)


# ---- W10 TCP echo: 100 connections, 64 bytes there and back, both ends in this thread


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Client(asyncio.Protocol):
    def __init__(self, times, all_done):
        self.message = bytes(64)
        self.missing = len(self.message)
        self.times = times
        self.all_done = all_done

    def connection_made(self, transport):
        self.transport = transport
        transport.write(self.message)

    def data_received(self, data):
        self.missing -= len(data)
        if self.missing:
            return
        self.times -= 1
        if self.times:
            self.missing = len(self.message)
            self.transport.write(self.message)
        else:
            self.transport.close()
            self.all_done.append(1)

    def connection_lost(self, error):
        require(self.times == 0)
        self.all_done.append(0)
        if len(self.all_done) == 200:
            self.all_done.future.set_result(None)


class Done(list):
    future = None


async def echo(operations):
    # Protocols, not streams: asyncio's own advice where speed matters.
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=200)
    port = server.sockets[0].getsockname()[1]
    all_done = Done()
    all_done.future = loop.create_future()
    for _ in range(100):
        await loop.create_connection(lambda: Client(operations // 100, all_done), "127.0.0.1", port)
    await all_done.future
    server.close()
    await server.wait_closed()
    require(sum(all_done) == 100)


# ---- W10t the same over TLS. The handshakes are done before the time counts


class SecureClient(Client):
    def connection_made(self, transport):
        self.transport = transport

    def begin(self):
        self.transport.write(self.message)


async def secure_echo(operations, folder):
    import ssl

    own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    own.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
    trusting = ssl.create_default_context(cafile=folder + "/cert.pem")
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=200, ssl=own)
    port = server.sockets[0].getsockname()[1]
    all_done = Done()
    all_done.future = loop.create_future()
    clients = []
    for _ in range(100):
        make = lambda: SecureClient(operations // 100, all_done)  # noqa: E731
        how = {"ssl": trusting, "server_hostname": "localhost"}
        clients.append((await loop.create_connection(make, "127.0.0.1", port, **how))[1])
    started = (time.perf_counter(), time.process_time())
    for client in clients:
        client.begin()
    await all_done.future
    server.close()
    await server.wait_closed()
    require(sum(all_done) == 100)
    return {"started": started}


# ---- W11 start a sleeping task, cancel it, join it


async def cancellations(operations):
    cancelled = 0
    for _ in range(operations):
        task = asyncio.create_task(sleep_a_second())
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            cancelled += 1
    require(cancelled == operations)


# ---- W12 the lines of a large file


async def lines(operations, path):
    import aiofiles

    count = size = 0
    async with aiofiles.open(path, "rb") as file:
        async for line in file:
            count += 1
            size += len(line)
    require(count == operations)
    return {"bytes": size}


# ---- W13 HTTP GETs of 1,024 bytes, 100 at once, on a connection each: with aiohttp


def stopwatch():
    """Gives what has gone by since, in place of what main() measures: without the connecting."""
    wall, cpu = time.perf_counter(), time.process_time()
    return lambda: {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


async def get_often(session, url, times):
    size = 0
    for _ in range(times):
        async with session.get(url) as response:
            require(response.status == 200)
            size += len(await response.read())
    return size


async def get_all(session, url, operations):
    sizes = await asyncio.gather(*[get_often(session, url, operations // 100) for _ in range(100)])
    require(sum(sizes) == operations * 1024)


async def gets(operations, address):
    import aiohttp
    import yarl

    url = yarl.URL(address)
    connector, cookies = aiohttp.TCPConnector(limit=100), aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(connector=connector, cookie_jar=cookies) as session:
        await get_all(session, url, 100)  # connects
        elapsed = stopwatch()
        await get_all(session, url, operations)
        return elapsed()


# ---- W14 queries with a parameter, on 10 connections: with asyncpg, prepared


async def query_often(statement, times):
    total = 0
    for i in range(times):
        total += await statement.fetchval(i)
    return total


async def queries(operations, address):
    import asyncpg

    each = operations // 10
    connections = [await asyncpg.connect(address) for _ in range(10)]
    statements = [await connection.prepare("SELECT $1::int") for connection in connections]
    elapsed = stopwatch()
    sums = await asyncio.gather(*[query_often(statement, each) for statement in statements])
    found = elapsed()
    require(sum(sums) == 10 * (each * (each - 1) // 2))
    for connection in connections:
        await connection.close()
    return found


# ---- tail: 10,000 tasks that work a little and yield, and one that is woken every millisecond


async def busy(state):
    x = 1
    while not state[0]:
        for _ in range(4):
            x = (x ^ (x << 13)) & 0xFFFFFFFFFFFFFFFF
            x ^= x >> 7
            x = (x ^ (x << 17)) & 0xFFFFFFFFFFFFFFFF
        state[1] += 1
        await asyncio.sleep(0)
    require(x != 0)


async def tail(milliseconds):
    state = [False, 0]
    tasks = [asyncio.create_task(busy(state)) for _ in range(10_000)]
    await asyncio.sleep(0)
    late = []
    end = time.perf_counter() + milliseconds / 1000
    while True:
        due = time.perf_counter() + 0.001
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        late.append((now - due) * 1e6)
        if now > end:
            break
    state[0] = True
    for task in tasks:
        await task
    require(state[1] >= 10_000)
    late.sort()
    at = lambda share: late[min(len(late) - 1, int(len(late) * share))]
    return {
        "ticks": len(late),
        "yields": state[1],
        "p50_us": at(0.5),
        "p99_us": at(0.99),
        "p999_us": at(0.999),
        "max_us": late[-1],
    }


# name: (coroutine, operations are a multiple of)
WORKLOADS = {
    "W1": (spawn_join, 1000),
    "W2": (yields, 2),
    "W3": (ping_pong, 1),
    "W4": (pipeline, 1),
    "W5": (lock_contention, 100),
    "W6a": (sleepers, 1),
    "W6b": (timeouts, 1),
    "W7": (nested, 1),
    "W7r": (recursion, 100),
    "W8": (generate, 1),
    "W9": (thread_round_trips, 1),
    "W10": (echo, 100),
    "W10t": (secure_echo, 100),
    "W11": (cancellations, 1),
    "W12": (lines, 1),
    "W13": (gets, 100),
    "W14": (queries, 100),
    "tail": (tail, 1),
}


def main():
    arguments = sys.argv[1:]
    loop_factory = None
    if arguments[:1] == ["--uvloop"]:
        import uvloop

        arguments.pop(0)
        loop_factory = uvloop.new_event_loop
    if len(arguments) not in (2, 3) or arguments[0] not in WORKLOADS:
        sys.exit("usage: workload.py [--uvloop] NAME OPERATIONS [FILE or ADDRESS]\n  NAME: " + ", ".join(WORKLOADS))
    name = arguments[0]
    run, multiple = WORKLOADS[name]
    operations = int(arguments[1]) // multiple * multiple
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        wall, cpu = time.perf_counter(), time.process_time()
        found = runner.run(run(operations, *arguments[2:])) or {}
        wall, cpu = found.pop("started", (wall, cpu))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    line = {"workload": name, "operations": operations, "seconds": wall, "cpu_seconds": cpu, "bytes_per_task": 0}
    print(json.dumps(line | found))


if __name__ == "__main__":
    main()
