/* Streams and events: work is queued, and runs, in order, when somebody waits for it. */
#define _GNU_SOURCE
#include "fake_cuda.h"
#include <stdlib.h>
#include <string.h>

static __thread CUstream capturing; /* what this thread captures (in the mode thread-local, which is ours) */
static pthread_mutex_t running = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP; /* one piece of work at a time, as one GPU */

void fake_put(struct Queue *queue, struct Work work)
{
    struct Work *copy = malloc(sizeof work);
    *copy = work, copy->next = NULL;
    if (queue->last) queue->last->next = copy;
    else queue->first = copy;
    queue->last = copy;
}

CUresult fake_enqueue(CUstream stream, struct Work work, const char *call)
{
    TRY(fake_ready());
    if (!stream) {
        fake_note("%s on the default stream, which waits for all others", call);
        return CUDA_ERROR_INVALID_VALUE;
    }
    TRY(fake_usable(stream, STREAM));
    pthread_mutex_lock(&fake_lock);
    if (stream->capture) fake_put(&stream->capture->work, work);
    else {
        if (work.kind == COPY_OUT) memset(work.target, POISON, work.bytes); /* until the copy has run */
        fake_put(&stream->pending, work);
        stream->queued++;
    }
    pthread_mutex_unlock(&fake_lock);
    return CUDA_SUCCESS;
}

CUresult fake_run_until(CUstream stream, unsigned long long position)
{
    pthread_mutex_lock(&running);
    while (stream->done < position) {
        pthread_mutex_lock(&fake_lock);
        struct Work *work = stream->pending.first;
        if (!(stream->pending.first = work->next)) stream->pending.last = NULL;
        pthread_mutex_unlock(&fake_lock);
        if (!fake.fault) fake_run(work); /* after a fault nothing runs any more */
        stream->done++;
        free(work);
    }
    pthread_mutex_unlock(&running);
    return fake.fault;
}

/* Streams */

CUresult cuStreamCreate(CUstream *stream, unsigned flags)
{
    TRY(fake_ready());
    return *stream = fake_new(STREAM, sizeof **stream), CUDA_SUCCESS;
}

CUresult cuStreamDestroy(CUstream stream)
{
    TRY(fake_usable(stream, STREAM));
    if (stream->done < stream->queued) fake_note("a stream was destroyed with work that nobody waited for");
    return stream->object.alive = 0, CUDA_SUCCESS;
}

/* A call that a capture does not allow spoils it. */
static CUresult forbidden(CUstream stream)
{
    if (!stream || !stream->capture) return CUDA_SUCCESS;
    return stream->capture->invalid = 1, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

CUresult fake_forbidden_in_capture(void) { return forbidden(capturing); }

CUresult cuStreamSynchronize(CUstream stream)
{
    TRY(fake_usable(stream, STREAM));
    TRY(forbidden(stream));
    return fake_run_until(stream, stream->queued);
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags)
{
    TRY(fake_usable(event, EVENT));
    if (!event->stream) return CUDA_SUCCESS; /* never recorded */
    if (event->stream->capture) return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    struct Work work = {.kind = WAIT, .stream = event->stream, .position = event->position}; /* of its last record */
    return fake_enqueue(stream, work, "cuStreamWaitEvent");
}

/* Capture */

CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode)
{
    if (!stream || !fake.capturable) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    TRY(fake_usable(stream, STREAM));
    if (stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
    stream->capture = fake_new(GRAPH, sizeof *stream->capture);
    return capturing = stream, CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
    TRY(fake_usable(stream, STREAM));
    if (!stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
    if (stream != capturing) return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    *graph = stream->capture, stream->capture = capturing = NULL;
    if (!(*graph)->invalid) return CUDA_SUCCESS;
    cuGraphDestroy(*graph);
    return *graph = NULL, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status)
{
    TRY(fake_usable(stream, STREAM));
    *status = stream->capture ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}

/* Events */

CUresult cuEventCreate(CUevent *event, unsigned flags)
{
    TRY(fake_ready());
    return (*event = fake_new(EVENT, sizeof **event))->flags = flags, CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent event)
{
    TRY(fake_usable(event, EVENT));
    return event->object.alive = 0, CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream stream)
{
    TRY(fake_usable(event, EVENT));
    struct Work work = {.kind = MARK, .event = event, .position = stream ? stream->queued + 1 : 0};
    TRY(fake_enqueue(stream, work, "cuEventRecord"));
    if (stream->capture) return CUDA_SUCCESS;
    return event->stream = stream, event->position = work.position, event->reached_ns = 0, CUDA_SUCCESS;
}

CUresult cuEventSynchronize(CUevent event)
{
    TRY(fake_usable(event, EVENT));
    if (!event->stream) return CUDA_SUCCESS;
    TRY(forbidden(event->stream));
    return fake_run_until(event->stream, event->position);
}

CUresult cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end)
{
    TRY(fake_usable(start, EVENT));
    TRY(fake_usable(end, EVENT));
    if ((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING || !start->stream || !end->stream)
        return CUDA_ERROR_INVALID_HANDLE;
    if (!start->reached_ns || !end->reached_ns) return CUDA_ERROR_NOT_READY;
    long long between = end->reached_ns - start->reached_ns;
    *milliseconds = between > 500 ? between / 1e6f : 5e-4f; /* a GPU's events count half microseconds */
    return CUDA_SUCCESS;
}
