/* An open-loop load generator for unary gRPC calls: calls are due at the moments of a Poisson process, whether or not earlier
 * ones were answered, and latencies count from when a call was due.
 *
 * usage: generator --host HOST --port PORT --method PATH --requests FILE --rate CALLS_A_SECOND --seconds SECONDS
 *                  [--connections 8] [--seed 0] [--timeout-ms 5000] [--max-open 20000]
 *
 * FILE holds messages as gRPC sends them, each after its prefix; they are sent in turn. Connections are used in turn too. The
 * timeout is sent as grpc-timeout, and ends a call here as well. Beyond --max-open unanswered calls those that are due are not
 * sent (NOT_SENT). Prints one JSON object when every call has ended:
 *
 *   calls, seconds (during which calls were sent), in_time (answered OK within the timeout, from when they were due),
 *   reply_bytes (mean message of those answered OK), cpu_us (of this process, a call), late_ms (percentiles of how late calls
 *   were sent) and statuses: for each that occurred the number of calls, and percentiles of the latency in milliseconds.
 */
#define _GNU_SOURCE
#include <getopt.h>
#include <math.h>
#include <netdb.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

#include "connection.h"

static const char *const STATUSES[] = {
    "OK",        "CANCELLED",     "UNKNOWN",      "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
    "UNIMPLEMENTED", "INTERNAL",  "UNAVAILABLE",  "DATA_LOSS",        "UNAUTHENTICATED",   "NOT_SENT"};
enum { OK = 0, CANCELLED = 1, UNKNOWN = 2, DEADLINE_EXCEEDED = 4, RESOURCE_EXHAUSTED = 8, INTERNAL = 13, UNAVAILABLE = 14,
       NOT_SENT = 17, STATUS_COUNT = 18 };
enum { OPEN = -2, NO_STATUS = -1 }; /* of a call that goes on; of one for which none has come */

struct options {
    const char *host, *port, *method, *requests;
    double rate, seconds, timeout;
    int connections, seed, max_open;
};

struct request { /* a message with its prefix */
    const uint8_t *bytes;
    size_t length;
};

struct call {
    double due, sent; /* seconds since the load began */
    double ms;        /* from due to ended */
    const struct request *request;
    struct connection *connection;
    size_t written;  /* bytes of the request */
    size_t received; /* bytes of the reply with its prefix */
    int32_t stream;
    int told;   /* grpc-status as it came */
    int status; /* OPEN, or how the call ended */
};

static struct options options = {.timeout = 5, .connections = 8, .max_open = 20000};
static struct request *requests;
static size_t request_count;
static struct call *calls; /* by when they are due */
static size_t call_count, started, ended, oldest, open_calls;
static struct connection *connections;
static double load_began;
static char timeout_text[32], authority[512];

static double clock_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double elapsed(void) { return clock_seconds() - load_began; }

static double cpu_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

/* ---- What is asked for ---------------------------------------------------------------------------------------------- */

static void parse(int count, char **arguments) {
    static const struct option known[] = {
        {"host", 1, 0, 'h'},    {"port", 1, 0, 'p'},        {"method", 1, 0, 'm'}, {"requests", 1, 0, 'f'},
        {"rate", 1, 0, 'r'},    {"seconds", 1, 0, 's'},     {"seed", 1, 0, 'n'},   {"connections", 1, 0, 'c'},
        {"max-open", 1, 0, 'o'}, {"timeout-ms", 1, 0, 't'}, {0, 0, 0, 0}};
    for (int each; (each = getopt_long(count, arguments, "", known, NULL)) != -1;)
        switch (each) {
        case 'h': options.host = optarg; break;
        case 'p': options.port = optarg; break;
        case 'm': options.method = optarg; break;
        case 'f': options.requests = optarg; break;
        case 'r': options.rate = atof(optarg); break;
        case 's': options.seconds = atof(optarg); break;
        case 'n': options.seed = atoi(optarg); break;
        case 'c': options.connections = atoi(optarg); break;
        case 'o': options.max_open = atoi(optarg); break;
        case 't': options.timeout = atof(optarg) / 1000; break;
        default: exit(2);
        }
    if (!options.host || !options.port || !options.method || !options.requests || !(options.rate > 0) ||
        !(options.seconds > 0) || options.connections < 1 || options.max_open < 1 || !(options.timeout > 0))
        fail("usage", "--host, --port, --method, --requests, --rate and --seconds are needed; numbers are above 0");
    snprintf(timeout_text, sizeof timeout_text, "%.0fm", ceil(options.timeout * 1000));
    snprintf(authority, sizeof authority, "%s:%s", options.host, options.port);
}

static size_t length_in(const uint8_t *prefix) {
    return (size_t)prefix[1] << 24 | (size_t)prefix[2] << 16 | (size_t)prefix[3] << 8 | prefix[4];
}

static void read_requests(void) {
    FILE *file = fopen(options.requests, "rb");
    long size = -1;
    if (file && fseek(file, 0, SEEK_END) == 0)
        size = ftell(file);
    if (size < 0)
        fail(options.requests, strerror(errno));
    rewind(file);
    uint8_t *content = allocate((size_t)size, 1);
    if (fread(content, 1, (size_t)size, file) != (size_t)size)
        fail(options.requests, "could not be read");
    fclose(file);
    requests = allocate((size_t)size / PREFIX, sizeof *requests);
    for (size_t at = 0; at < (size_t)size;) {
        size_t left = (size_t)size - at;
        if (left < PREFIX || length_in(content + at) > left - PREFIX)
            fail(options.requests, "ends within a message");
        struct request *each = &requests[request_count++];
        *each = (struct request){.bytes = content + at, .length = PREFIX + length_in(content + at)};
        at += each->length;
    }
    if (!request_count)
        fail(options.requests, "has no message");
}

/* Draws exponential gaps between calls, and scales them to exactly the rate, also where calls are few. */
static void plan_calls(void) {
    call_count = (size_t)(options.rate * options.seconds);
    call_count = call_count ? call_count : 1;
    calls = allocate(call_count, sizeof *calls);
    srand48(options.seed);
    size_t first = (size_t)(drand48() * (double)request_count);
    double due = 0;
    for (size_t i = 0; i < call_count; i++) {
        due -= log(1 - drand48());
        calls[i] = (struct call){.due = due, .request = &requests[(first + i) % request_count], .told = NO_STATUS, .status = OPEN};
    }
    for (size_t i = 0; i < call_count; i++)
        calls[i].due *= (double)call_count / options.rate / due;
}

/* ---- Calls ---------------------------------------------------------------------------------------------------------- */

static void end_call(struct call *call, int status) {
    call->status = status;
    call->ms = (elapsed() - call->due) * 1000;
    ended++;
    open_calls -= call->connection != NULL;
}

/* Status of a call that ended without one, by the error code of its stream (as gRPC over HTTP/2 maps them). */
static int status_of_reset(uint32_t code) {
    switch (code) {
    case NGHTTP2_REFUSED_STREAM: return UNAVAILABLE;
    case NGHTTP2_CANCEL: return CANCELLED;
    case NGHTTP2_ENHANCE_YOUR_CALM: return RESOURCE_EXHAUSTED;
    default: return INTERNAL;
    }
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_length,
                     const uint8_t *value, size_t value_length, uint8_t flags, void *connection) {
    (void)value_length, (void)flags, (void)connection;
    struct call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (call && name_length == strlen("grpc-status") && memcmp(name, "grpc-status", name_length) == 0) {
        int told = atoi((const char *)value);
        call->told = told >= 0 && told < NOT_SENT ? told : UNKNOWN;
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data, size_t length,
                   void *connection) {
    (void)flags, (void)data, (void)connection;
    struct call *call = nghttp2_session_get_stream_user_data(session, stream);
    if (call)
        call->received += length;
    return 0;
}

static int on_close(nghttp2_session *session, int32_t stream, uint32_t code, void *connection) {
    (void)connection;
    struct call *call = nghttp2_session_get_stream_user_data(session, stream);
    if (call && call->status == OPEN)
        end_call(call, call->told != NO_STATUS ? call->told : status_of_reset(code));
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *connection) {
    (void)session;
    if (frame->hd.type == NGHTTP2_SETTINGS)
        ((struct connection *)connection)->ready = true;
    return 0;
}

/* Gives nghttp2 the next part of a request. */
static ssize_t on_request(nghttp2_session *session, int32_t stream, uint8_t *to, size_t room, uint32_t *flags,
                          nghttp2_data_source *source, void *connection) {
    (void)session, (void)stream, (void)connection;
    struct call *call = source->ptr;
    size_t left = call->request->length - call->written;
    size_t length = left < room ? left : room;
    memcpy(to, call->request->bytes + call->written, length);
    call->written += length;
    if (length == left)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)length;
}

#define HEADER(name, value) {(uint8_t *)(name), (uint8_t *)(value), strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE}

static struct connection *next_connection(void) {
    static int last;
    for (int tried = 0; tried < options.connections; tried++) {
        last = (last + 1) % options.connections;
        if (connections[last].socket >= 0 && nghttp2_session_check_request_allowed(connections[last].session))
            return &connections[last];
    }
    fail(authority, "no connection takes calls any more");
    return NULL;
}

static void start_call(struct call *call) {
    call->sent = elapsed();
    if (open_calls >= (size_t)options.max_open) {
        end_call(call, NOT_SENT);
        return;
    }
    nghttp2_nv headers[] = {HEADER(":method", "POST"),
                            HEADER(":scheme", "http"),
                            HEADER(":path", options.method),
                            HEADER(":authority", authority),
                            HEADER("te", "trailers"),
                            HEADER("content-type", "application/grpc"),
                            HEADER("user-agent", "rf-bench"),
                            HEADER("grpc-timeout", timeout_text)};
    nghttp2_data_provider body = {.source.ptr = call, .read_callback = on_request};
    call->connection = next_connection();
    open_calls++;
    call->stream = nghttp2_submit_request(call->connection->session, NULL, headers, sizeof headers / sizeof *headers, &body, call);
    if (call->stream < 0)
        fail("call", nghttp2_strerror(call->stream));
}

/* Ends calls whose deadline has passed. All have the same timeout, so their deadlines are in the order of their starts. */
static void end_overdue_calls(double now) {
    for (; oldest < started; oldest++) {
        struct call *call = &calls[oldest];
        if (call->status != OPEN)
            continue;
        if (call->sent + options.timeout > now)
            return;
        end_call(call, DEADLINE_EXCEEDED);
        nghttp2_submit_rst_stream(call->connection->session, NGHTTP2_FLAG_NONE, call->stream, NGHTTP2_CANCEL);
    }
}

static void lose(struct connection *connection) {
    for (size_t i = oldest; i < started; i++)
        if (calls[i].status == OPEN && calls[i].connection == connection)
            end_call(&calls[i], UNAVAILABLE);
    connection_close(connection);
}

/* ---- Connections ---------------------------------------------------------------------------------------------------- */

static int connected(void) {
    struct addrinfo *found, hints = {.ai_socktype = SOCK_STREAM};
    int error = getaddrinfo(options.host, options.port, &hints, &found);
    if (error)
        fail(authority, gai_strerror(error));
    int socket_ = socket(found->ai_family, found->ai_socktype, found->ai_protocol);
    if (socket_ < 0 || connect(socket_, found->ai_addr, found->ai_addrlen) || !without_delay(socket_))
        fail(authority, strerror(errno));
    freeaddrinfo(found);
    return socket_;
}

static void open_connections(void) {
    nghttp2_session_callbacks *callbacks;
    if (nghttp2_session_callbacks_new(&callbacks))
        fail("nghttp2", "no memory");
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 4 << 20}, {NGHTTP2_SETTINGS_ENABLE_PUSH, 0}};
    connections = allocate((size_t)options.connections, sizeof *connections);
    for (int i = 0; i < options.connections; i++) {
        struct connection *c = &connections[i];
        c->socket = connected();
        if (nghttp2_session_client_new(&c->session, callbacks, c) || nghttp2_submit_settings(c->session, 0, settings, 2) ||
            nghttp2_session_set_local_window_size(c->session, 0, 0, 64 << 20))
            fail("nghttp2", "no session");
    }
}

/* Sends what is to be sent, waits for at most so many seconds, and takes in what has come. */
static void exchange(double seconds) {
    struct pollfd waiting[options.connections];
    for (int i = 0; i < options.connections; i++) {
        struct connection *c = &connections[i];
        if (c->socket >= 0 && !c->blocked && nghttp2_session_want_write(c->session) && !connection_write(c))
            lose(c);
        waiting[i] = connection_wait(c);
    }
    struct timespec limit = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - floor(seconds)) * 1e9)};
    if (ppoll(waiting, (nfds_t)options.connections, &limit, NULL) < 0 && errno != EINTR)
        fail("poll", strerror(errno));
    for (int i = 0; i < options.connections; i++)
        if (connections[i].socket >= 0 && waiting[i].revents &&
            !(connection_read(&connections[i]) && connection_write(&connections[i])))
            lose(&connections[i]);
}

static void await_settings(void) {
    double until = clock_seconds() + 5;
    for (int ready = 0; ready < options.connections;) {
        exchange(0.02);
        ready = 0;
        for (int i = 0; i < options.connections; i++)
            ready += connections[i].ready;
        next_connection(); /* fails where no connection is left */
        if (clock_seconds() > until)
            fail(authority, "does not speak HTTP/2, or too slowly");
    }
}

/* ---- The load ------------------------------------------------------------------------------------------------------- */

/* Seconds until a call is due or overdue. */
static double time_to_wait(void) {
    double next = started < call_count ? calls[started].due : INFINITY;
    if (oldest < started && calls[oldest].sent + options.timeout < next)
        next = calls[oldest].sent + options.timeout;
    double wait = next - elapsed();
    return wait < 0 ? 0 : wait > 1 ? 1 : wait;
}

static void run_load(void) {
    prctl(PR_SET_TIMERSLACK, 1000UL); /* wake up within a microsecond, not 50 */
    load_began = clock_seconds();
    while (ended < call_count) {
        double now = elapsed();
        while (started < call_count && calls[started].due <= now)
            start_call(&calls[started++]);
        end_overdue_calls(now);
        if (ended < call_count)
            exchange(time_to_wait());
    }
}

/* ---- What it gave --------------------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b) {
    double first = *(const double *)a, second = *(const double *)b;
    return (first > second) - (first < second);
}

static double percentile(const double *sorted, size_t count, double q) {
    double place = q / 100 * (double)(count - 1);
    size_t below = (size_t)place;
    return below + 1 < count ? sorted[below] + (place - (double)below) * (sorted[below + 1] - sorted[below]) : sorted[below];
}

static void print_percentiles(double *values, size_t count) {
    qsort(values, count, sizeof *values, compare);
    printf("\"p50\": %.4f, \"p90\": %.4f, \"p99\": %.4f, \"p99.9\": %.4f, \"max\": %.4f", percentile(values, count, 50),
           percentile(values, count, 90), percentile(values, count, 99), percentile(values, count, 99.9), values[count - 1]);
}

static void print_results(double cpu) {
    double *values = allocate(call_count, sizeof *values), received = 0, seconds = calls[call_count - 1].due;
    size_t in_time = 0, late = 0, answered = 0;
    for (size_t i = 0; i < call_count; i++) {
        const struct call *call = &calls[i];
        if (call->status != NOT_SENT)
            values[late++] = (call->sent - call->due) * 1000;
        if (call->sent > seconds)
            seconds = call->sent;
        if (call->status == OK) {
            answered++;
            in_time += call->ms <= options.timeout * 1000;
            received += (double)call->received - PREFIX;
        }
    }
    printf("{\"calls\": %zu, \"seconds\": %.6f, \"in_time\": %zu, \"reply_bytes\": %.1f, \"cpu_us\": %.2f, \"late_ms\": {", call_count,
           seconds, in_time, answered ? received / (double)answered : 0, cpu / (double)call_count * 1e6);
    print_percentiles(values, late);
    printf("}, \"statuses\": {");
    const char *separator = "";
    for (int status = 0; status < STATUS_COUNT; status++) {
        size_t count = 0;
        for (size_t i = 0; i < call_count; i++)
            if (calls[i].status == status)
                values[count++] = calls[i].ms;
        if (!count)
            continue;
        printf("%s\"%s\": {\"calls\": %zu, ", separator, STATUSES[status], count);
        print_percentiles(values, count);
        printf("}");
        separator = ", ";
    }
    printf("}}\n");
}

int main(int count, char **arguments) {
    parse(count, arguments);
    read_requests();
    plan_calls();
    open_connections();
    await_settings();
    double cpu = cpu_seconds();
    run_load();
    print_results(cpu_seconds() - cpu);
    return 0;
}
