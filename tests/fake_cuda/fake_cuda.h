/* A CUDA driver on the CPU, for tests: what the files of this folder share.

   libcuda.so.1 made of them is compiled against NVIDIA's cuda.h, so each call has the real one's arguments, and real
   pycuda and real cuda-bindings run on it unchanged. There is one device. It is stricter than a GPU:
   - Streams are lazy: what is queued runs when somebody waits for it, so a wait that is missing shows every time.
   - Memory is poisoned before it is written and after it is freed, and each use of it is looked up.
   - What a GPU would answer with a slow copy, a leak or wrong pictures is a mistake: it is noted, and the call fails.
   - A fault is sticky, as a GPU's: from then on every call reports it.
   Left out: more devices, contexts made by hand, the default stream's order, arrays and textures, captures of several
   streams or in another mode than thread-local. A call that is not here answers CUDA_ERROR_NOT_SUPPORTED. */
#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H
#include <cuda.h>
#include <pthread.h>

#define POISON 0xA5
#define TRY(call)                     \
    do {                              \
        CUresult status_ = (call);    \
        if (status_) return status_;  \
    } while (0)

/* What the tests set, through ctypes (the same fields in __init__.py). */
struct Settings {
    char name[64];
    int major, minor;                /* compute capability */
    int integrated;                  /* shares its memory with the CPU */
    int present, taken, capturable;  /* there is a device; another process holds it; streams can be captured */
    int driver_version;              /* 12060 for CUDA 12.6 */
    unsigned long long total_memory;
    int fail_allocation, fail_launch; /* from the n-th on memory is out; the n-th launch is a fault; 0: never */
    int fault;                       /* the CUresult that every call answers from now on; 0: none */
};
extern struct Settings fake;

/* Everything that a test must give back is in one list. No object is ever really freed: a stale handle is seen. */
enum Kind { STREAM, EVENT, MODULE, GRAPH, EXECUTABLE, DEVICE_MEMORY, PINNED_MEMORY, MAPPED_MEMORY, KINDS };
struct Object {
    enum Kind kind;
    int alive;
    struct Object *next;
};

/* A piece of work on a stream or in a graph. */
struct Work {
    enum { COPY_IN, COPY_OUT, KERNEL, HOST_FUNCTION, MARK, WAIT } kind;
    void *target;
    const void *source;
    size_t bytes;
    CUhostFn function;               /* HOST_FUNCTION, called with `target` */
    CUevent event;                   /* MARK */
    CUstream stream;                 /* WAIT: until `position` of that stream */
    unsigned long long position;
    struct Work *next;
};
struct Queue { struct Work *first, *last; };

struct CUstream_st {
    struct Object object;
    struct Queue pending;
    unsigned long long queued, done;
    CUgraph capture;                 /* while it is captured */
};
struct CUevent_st {
    struct Object object;
    unsigned flags;
    CUstream stream;                 /* where it was last recorded, as which piece of work, and when that was reached */
    unsigned long long position, reached_ns;
};
struct CUgraph_st {
    struct Object object;
    struct Queue work;
    int invalid;
};
struct CUgraphExec_st {
    struct Object object;
    struct Queue work;
};

extern pthread_mutex_t fake_lock;    /* over all state; never held while work runs */

void *fake_new(enum Kind kind, size_t size);
struct Object *fake_objects(void);
void fake_note(const char *format, ...); /* a mistake */
CUresult fake_ready(void);               /* no fault, and a context is current in this thread */
CUresult fake_usable(void *object, enum Kind kind);
CUresult fake_fault(CUresult result);
int fake_on_device(const void *address, size_t bytes);
int fake_pinned(const void *address, size_t bytes);

/* Put work on a stream, or into the graph that is captured from it. */
CUresult fake_enqueue(CUstream stream, struct Work work, const char *call);
void fake_put(struct Queue *queue, struct Work work);
CUresult fake_run(struct Work *work);
CUresult fake_run_until(CUstream stream, unsigned long long position);
CUresult fake_forbidden_in_capture(void); /* for calls that spoil any capture of this thread */
#endif
