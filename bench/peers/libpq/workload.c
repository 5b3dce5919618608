// W14 of bench/io_workload.cpp in C with bare libpq and epoll: what a client on top of libpq can reach.
//
// Usage: workload W14 OPERATIONS ADDRESS
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include <libpq-fe.h>

enum { connections = 10 };

static double seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void require(int done, PGconn *conn) {
    if (done) return;
    fprintf(stderr, "the workload has not done its work: %s\n", PQerrorMessage(conn));
    exit(1);
}

static void ask(PGconn *conn, unsigned number) {
    char text[16];
    const char *values[1] = {text};
    snprintf(text, sizeof text, "%u", number);
    require(PQsendQueryPrepared(conn, "q", 1, values, NULL, NULL, 0), conn);
    require(PQflush(conn) == 0, conn);
}

int main(int argc, char **argv) {
    if (argc != 4 || strcmp(argv[1], "W14") != 0) {
        fputs("usage: workload W14 OPERATIONS ADDRESS\n", stderr);
        return 2;
    }
    const unsigned each = (unsigned)(strtoul(argv[2], NULL, 10) / connections);
    PGconn *conn[connections];
    unsigned next[connections];
    const int poller = epoll_create1(0);
    for (unsigned i = 0; i < connections; ++i) {
        conn[i] = PQconnectdb(argv[3]);
        require(PQstatus(conn[i]) == CONNECTION_OK, conn[i]);
        PQclear(PQprepare(conn[i], "q", "SELECT $1::int", 0, NULL));
        PQsetnonblocking(conn[i], 1);
        struct epoll_event e = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(poller, EPOLL_CTL_ADD, PQsocket(conn[i]), &e);
    }
    const double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t sum = 0;
    unsigned left = connections;
    for (unsigned i = 0; i < connections; ++i) {
        next[i] = 0;
        ask(conn[i], 0);
    }
    while (left > 0) {
        struct epoll_event events[connections];
        const int n = epoll_wait(poller, events, connections, -1);
        for (int k = 0; k < n; ++k) {
            const unsigned i = events[k].data.u32;
            require(PQconsumeInput(conn[i]), conn[i]);
            if (PQisBusy(conn[i])) continue;
            PGresult *result = PQgetResult(conn[i]);
            require(PQresultStatus(result) == PGRES_TUPLES_OK, conn[i]);
            sum += strtoul(PQgetvalue(result, 0, 0), NULL, 10);
            PQclear(result);
            require(PQgetResult(conn[i]) == NULL, conn[i]);
            if (++next[i] < each) {
                ask(conn[i], next[i]);
            } else {
                --left;
            }
        }
    }
    const double wall_taken = seconds(CLOCK_MONOTONIC) - wall, cpu_taken = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    require(sum == (uint64_t)connections * each * (each - 1) / 2, conn[0]);
    printf("{\"workload\": \"W14\", \"operations\": %u, \"seconds\": %.9f, \"cpu_seconds\": %.9f}\n", each * connections,
        wall_taken, cpu_taken);
    return 0;
}
