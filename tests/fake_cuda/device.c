/* The device, its one context, errors, and what the tests ask. */
#include "fake_cuda.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct Settings fake = {"Fake GPU", 8, 7, 0, 1, 0, 1, 12060, 8ull << 30, 0, 0, 0};
pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER;

static struct Object *objects;
static char mistakes[8192];
static int initialised, retained;    /* how often the primary context is held */
static char primary;                 /* its address is the context */
static __thread int depth;           /* of this thread's stack of contexts */
static __thread int released;        /* pycuda pushes the primary context once more as it gives it back */
static pthread_key_t thread_end;

/* Mistakes */

void fake_note(const char *format, ...)
{
    va_list arguments;
    if (fake.fault) return; /* after a fault nothing can be freed any more */
    pthread_mutex_lock(&fake_lock);
    size_t used = strlen(mistakes);
    va_start(arguments, format);
    vsnprintf(mistakes + used, sizeof mistakes - used - 1, format, arguments);
    va_end(arguments);
    strcat(mistakes, "\n");
    pthread_mutex_unlock(&fake_lock);
}

static void end_of_thread(void *unused)
{
    if (depth > released) fake_note("a thread ended with a context on its stack: pycuda aborts");
}

__attribute__((constructor)) static void start(void) { pthread_key_create(&thread_end, end_of_thread); }

/* A program that ends with mistakes ends as one that a GPU stopped. */
__attribute__((destructor)) static void end(void)
{
    if (depth > released) fake_note("the program ended with a context on its stack: pycuda aborts");
    if (*mistakes) {
        fprintf(stderr, "fake CUDA driver: %s", mistakes);
        abort();
    }
}

/* What the tests call (__init__.py) */

void fake_reset(void)
{
    for (struct Object *o = objects; o; o = o->next) o->alive = 0;
    objects = NULL; /* what still points to one finds it dead */
    *mistakes = 0;
    initialised = retained = depth = released = 0;
}

const char *fake_mistakes(void) { return mistakes; }

static const char *kinds[KINDS + 2] = {"stream", "event", "module", "graph", "executable graph", "device memory",
                                       "page-locked memory", "mapped memory", "context held", "context on the stack"};

/* How many objects live; `text` names them. */
int fake_leftovers(char *text, size_t size)
{
    int found = 0, counts[KINDS + 2] = {0};
    pthread_mutex_lock(&fake_lock);
    for (struct Object *o = objects; o; o = o->next) counts[o->kind] += o->alive && o->kind != MODULE;
    pthread_mutex_unlock(&fake_lock);
    counts[KINDS] = retained, counts[KINDS + 1] = depth;
    *text = 0;
    for (int k = 0; k < KINDS + 2; found += counts[k++])
        if (counts[k])
            snprintf(text + strlen(text), size - strlen(text), "%s%d %s", *text ? ", " : "", counts[k], kinds[k]);
    return found;
}

struct Object *fake_objects(void) { return objects; }

/* What every call looks at first */

void *fake_new(enum Kind kind, size_t size)
{
    struct Object *made = calloc(1, size);
    made->kind = kind, made->alive = 1;
    pthread_mutex_lock(&fake_lock);
    made->next = objects, objects = made;
    pthread_mutex_unlock(&fake_lock);
    return made;
}

CUresult fake_fault(CUresult result) { return fake.fault ? fake.fault : (fake.fault = result); }

CUresult fake_ready(void)
{
    if (fake.fault) return fake.fault;
    return depth && retained ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult fake_usable(void *object, enum Kind kind)
{
    struct Object *o = object;
    TRY(fake_ready());
    return o && o->alive && o->kind == kind ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

/* The device */

CUresult cuInit(unsigned flags)
{
    if (fake.fault) return fake.fault;
    initialised = fake.present;
    return fake.present ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

CUresult cuDriverGetVersion(int *version) { return *version = fake.driver_version, CUDA_SUCCESS; }

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
    if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
    *device = 0;
    return ordinal ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int size, CUdevice device)
{
    return snprintf(name, size, "%s", fake.name), CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device) { return *bytes = fake.total_memory, CUDA_SUCCESS; }

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
    switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = fake.major; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = fake.minor; break;
    case CU_DEVICE_ATTRIBUTE_INTEGRATED: *value = fake.integrated; break;
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING: *value = 1; break;
    default: *value = 0;
    }
    return CUDA_SUCCESS;
}

CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device)
{
    return *major = fake.major, *minor = fake.minor, CUDA_SUCCESS;
}

/* The primary context, and each thread's stack of contexts */

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
    if (fake.fault) return fake.fault;
    if (fake.taken) return CUDA_ERROR_DEVICE_UNAVAILABLE;
    __sync_fetch_and_add(&retained, 1);
    *context = (CUcontext)&primary;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
    char text[512];
    if (retained <= 0) return CUDA_ERROR_INVALID_CONTEXT;
    released++;
    if (!__sync_sub_and_fetch(&retained, 1) && fake_leftovers(text, sizeof text) > depth)
        fake_note("the context was given back while these live: %s", text);
    return fake.fault;
}

CUresult cuCtxPushCurrent(CUcontext context)
{
    if (context != (CUcontext)&primary || !retained) return CUDA_ERROR_INVALID_CONTEXT;
    depth++;
    pthread_setspecific(thread_end, &primary); /* any value: its destructor looks at the stack */
    return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent(CUcontext *context)
{
    if (!depth) return CUDA_ERROR_INVALID_CONTEXT;
    depth--;
    if (context) *context = (CUcontext)&primary;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device) { return *device = 0, fake_ready(); }

/* Errors */

/* In the words of NVIDIA's driver, which this project's errors look for. */
CUresult cuGetErrorString(CUresult error, const char **text)
{
    switch (error) {
    case CUDA_SUCCESS: *text = "no error"; break;
    case CUDA_ERROR_INVALID_VALUE: *text = "invalid argument"; break;
    case CUDA_ERROR_OUT_OF_MEMORY: *text = "out of memory"; break;
    case CUDA_ERROR_NOT_INITIALIZED: *text = "initialization error"; break;
    case CUDA_ERROR_DEVICE_UNAVAILABLE: *text = "CUDA-capable device(s) is/are busy or unavailable"; break;
    case CUDA_ERROR_NO_DEVICE: *text = "no CUDA-capable device is detected"; break;
    case CUDA_ERROR_INVALID_DEVICE: *text = "invalid device ordinal"; break;
    case CUDA_ERROR_INVALID_CONTEXT: *text = "invalid device context"; break;
    case CUDA_ERROR_INVALID_HANDLE: *text = "invalid resource handle"; break;
    case CUDA_ERROR_NOT_READY: *text = "device not ready"; break;
    case CUDA_ERROR_ILLEGAL_ADDRESS: *text = "an illegal memory access was encountered"; break;
    case CUDA_ERROR_LAUNCH_FAILED: *text = "unspecified launch failure"; break;
    case CUDA_ERROR_NOT_SUPPORTED: *text = "operation not supported"; break;
    case CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: *text = "operation not permitted when stream is capturing"; break;
    default: *text = "unknown error";
    }
    return CUDA_SUCCESS;
}
