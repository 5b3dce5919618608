/* What bench/jetstream.cpp does, with bare libnats, over the queue that it has made: stream "bench", consumer "workers".
 *
 *     workload URL put  BYTES ITEMS IN_FLIGHT  js_PublishAsync with that many under way; js_Publish if it is 1
 *     workload URL get  BYTES ITEMS BATCH      natsSubscription_Fetch, natsMsg_Ack
 *     workload URL many BYTES ITEMS BATCH      4 threads that js_Publish and 4 that fetch, over one connection
 */
#include <nats/nats.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { each = 4 };
static const char* subject = "aio.queue.bench.items";

static jsCtx* js;
static natsConnection* connection;
static int bytes, items, in_flight;
static char* data;

static void must(natsStatus s, const char* what) {
    if (s == NATS_OK) return;
    fprintf(stderr, "libnats: %s: %s: %s\n", what, natsStatus_GetText(s), nats_GetLastError(NULL));
    exit(1);
}

static void failed(jsCtx* context, jsPubAckErr* error, void* closure) {
    (void)context;
    (void)closure;
    fprintf(stderr, "libnats: an item was not stored: %s\n", error->ErrText ? error->ErrText : "?");
    exit(1);
}

/* An identity for each item, as the queue of aiocxx gives it: the servers then store it once. */
static void identify(jsPubOptions* o, char* id, size_t size, int producer, int i) {
    jsPubOptions_Init(o);
    snprintf(id, size, "%ld-%d-%d", (long)getpid(), producer, i);
    o->MsgId = id;
}

static void* put_each(void* closure) {
    const int producer = (int)(long)closure;
    jsPubOptions o;
    char id[64];
    const int mine = producer < 0 ? items : items / each;
    for (int i = 0; i < mine; ++i) {
        identify(&o, id, sizeof id, producer, i);
        must(js_Publish(NULL, js, subject, data, bytes, &o, NULL), "js_Publish");
    }
    return NULL;
}

static void put_all(void) {
    jsPubOptions o;
    char id[64];
    for (int i = 0; i < items; ++i) {
        identify(&o, id, sizeof id, 0, i);
        must(js_PublishAsync(js, subject, data, bytes, &o), "js_PublishAsync");
    }
    must(js_PublishAsyncComplete(js, NULL), "js_PublishAsyncComplete");
}

static void get_some(int count) {
    natsSubscription* sub = NULL;
    jsSubOptions o;
    jsSubOptions_Init(&o);
    o.Stream = "bench";
    o.Consumer = "workers";
    must(js_PullSubscribe(&sub, js, subject, "workers", NULL, &o, NULL), "js_PullSubscribe");
    int empty = 0;
    for (int got = 0; got < count;) {
        natsMsgList list;
        const int batch = count - got < in_flight ? count - got : in_flight;
        const natsStatus s = natsSubscription_Fetch(&list, sub, batch, 30000, NULL);
        if (s == NATS_TIMEOUT && ++empty < 100000) continue; /* at once, where other fetches wait for items, too */
        must(s, "natsSubscription_Fetch");
        for (int i = 0; i < list.Count; ++i) {
            if (natsMsg_GetDataLength(list.Msgs[i]) != bytes) must(NATS_ERR, "an item of a wrong size");
            must(natsMsg_Ack(list.Msgs[i], NULL), "natsMsg_Ack");
        }
        got += list.Count;
        natsMsgList_Destroy(&list);
    }
    natsSubscription_Destroy(sub);
}

static void* get_each(void* closure) {
    (void)closure;
    get_some(items / each);
    return NULL;
}

static void many(void) {
    pthread_t threads[2 * each];
    for (long i = 0; i < each; ++i) {
        pthread_create(&threads[2 * i], NULL, put_each, (void*)i);
        pthread_create(&threads[2 * i + 1], NULL, get_each, NULL);
    }
    for (int i = 0; i < 2 * each; ++i) pthread_join(threads[i], NULL);
}

static double wall(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double processor(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + 1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

int main(int argc, char** argv) {
    if (argc != 6) return 2;
    const char* what = argv[2];
    bytes = atoi(argv[3]);
    items = atoi(argv[4]);
    in_flight = atoi(argv[5]);
    data = malloc((size_t)bytes);
    memset(data, 'x', (size_t)bytes);
    must(natsConnection_ConnectTo(&connection, argv[1]), "connect");
    jsOptions o;
    jsOptions_Init(&o);
    o.PublishAsync.MaxPending = in_flight;
    o.PublishAsync.StallWait = 10000;
    o.PublishAsync.ErrHandler = failed;
    must(natsConnection_JetStream(&js, connection, &o), "JetStream");
    const double before = processor();
    const double start = wall();
    if (!strcmp(what, "put") && in_flight > 1) put_all();
    if (!strcmp(what, "put") && in_flight == 1) put_each((void*)-1L);
    if (!strcmp(what, "get")) get_some(items);
    if (!strcmp(what, "many")) many();
    must(natsConnection_Flush(connection), "flush");
    printf("{\"seconds\": %.6f, \"processor\": %.6f}\n", wall() - start, processor() - before);
    jsCtx_Destroy(js);
    natsConnection_Destroy(connection);
    nats_Close();
    return 0;
}
