/* What streams carry: copies, one kernel, calls of the host, and graphs of them. */
#define _GNU_SOURCE
#include "fake_cuda.h"
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct CUfunc_st { struct Object object; char name[64]; };
struct CUmod_st { struct Object object; struct CUfunc_st function; };

/* Running */

/* The one kernel that is known: `invert` of tests/gpu/inverting_tensorrt.py. */
static CUresult invert(struct Work *work)
{
    unsigned char *target = work->target;
    const unsigned char *source = work->source;
    if (!fake_on_device(source, work->bytes) || !fake_on_device(target, work->bytes)) {
        fake_note("a kernel runs over memory that was freed, never reserved, or is not the GPU's");
        return fake_fault(CUDA_ERROR_ILLEGAL_ADDRESS);
    }
    for (size_t i = 0; i < work->bytes; i++) target[i] = source[i] ^ 255;
    return CUDA_SUCCESS;
}

static CUresult copy(struct Work *work)
{
    const void *pinned = work->kind == COPY_IN ? work->source : work->target;
    const void *device = work->kind == COPY_IN ? work->target : work->source;
    const char *freed = !fake_pinned(pinned, work->bytes)      ? "page-locked memory"
                        : !fake_on_device(device, work->bytes) ? "memory on the GPU"
                                                               : NULL;
    if (freed) {
        fake_note("a copy runs after its %s was freed", freed);
        return fake_fault(CUDA_ERROR_ILLEGAL_ADDRESS);
    }
    return memcpy(work->target, work->source, work->bytes), CUDA_SUCCESS;
}

CUresult fake_run(struct Work *work)
{
    struct timespec t;
    switch (work->kind) {
    case KERNEL: return invert(work);
    case HOST_FUNCTION: return work->function(work->target), fake.fault;
    case WAIT: return fake_run_until(work->stream, work->position);
    case MARK:
        clock_gettime(CLOCK_MONOTONIC, &t);
        if (work->event->position == work->position) work->event->reached_ns = t.tv_sec * 1000000000ull + t.tv_nsec;
        return CUDA_SUCCESS;
    default: return copy(work);
    }
}

/* Copies */

static CUresult check_copy(const void *pinned, const void *device, size_t bytes, const char *call)
{
    TRY(fake_ready());
    if (!fake_pinned(pinned, bytes)) fake_note("%s of pageable memory: it is not asynchronous", call);
    else if (!fake_on_device(device, bytes)) fake_note("%s of %zu bytes that are not reserved on the GPU", call, bytes);
    else return CUDA_SUCCESS;
    return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr target, const void *source, size_t bytes, CUstream stream)
{
    struct Work work = {.kind = COPY_IN, .target = (void *)target, .source = source, .bytes = bytes};
    TRY(check_copy(source, (void *)target, bytes, "cuMemcpyHtoDAsync"));
    return fake_enqueue(stream, work, "cuMemcpyHtoDAsync");
}

CUresult cuMemcpyDtoHAsync(void *target, CUdeviceptr source, size_t bytes, CUstream stream)
{
    struct Work work = {.kind = COPY_OUT, .target = target, .source = (void *)source, .bytes = bytes};
    TRY(check_copy(target, (void *)source, bytes, "cuMemcpyDtoHAsync"));
    return fake_enqueue(stream, work, "cuMemcpyDtoHAsync");
}

/* Kernels and calls of the host */

CUresult cuModuleLoadData(CUmodule *module, const void *image)
{
    const char *entry = strstr(image, ".entry ");
    TRY(fake_ready());
    struct CUmod_st *made = fake_new(MODULE, sizeof *made);
    if (!entry || sscanf(entry, ".entry %63[A-Za-z0-9_]", made->function.name) != 1) return CUDA_ERROR_INVALID_IMAGE;
    made->function.object = made->object;
    return *module = made, CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name)
{
    TRY(fake_usable(module, MODULE));
    if (strcmp(module->function.name, name) || strcmp(name, "invert")) return CUDA_ERROR_NOT_FOUND;
    return *function = &module->function, CUDA_SUCCESS;
}

static CUresult launchable(void)
{
    if (fake.fail_launch && !--fake.fail_launch) return fake_fault(CUDA_ERROR_LAUNCH_FAILED);
    return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction function, unsigned grid, unsigned grid_y, unsigned grid_z, unsigned block,
                        unsigned block_y, unsigned block_z, unsigned shared, CUstream stream, void **values,
                        void **extra)
{
    TRY(fake_usable(function, MODULE));
    TRY(launchable());
    size_t threads = (size_t)grid * block, bytes = *(uint32_t *)values[2];
    struct Work work = {.kind = KERNEL, .source = *(void **)values[0], .target = *(void **)values[1],
                        .bytes = bytes < threads ? bytes : threads};
    return fake_enqueue(stream, work, "cuLaunchKernel");
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void *data)
{
    struct Work work = {.kind = HOST_FUNCTION, .function = function, .target = data};
    TRY(launchable());
    return fake_enqueue(stream, work, "cuLaunchHostFunc");
}

/* Graphs */

CUresult cuGraphInstantiate(CUgraphExec *executable, CUgraph graph, unsigned long long flags)
{
    TRY(fake_usable(graph, GRAPH));
    *executable = fake_new(EXECUTABLE, sizeof **executable);
    for (struct Work *work = graph->work.first; work; work = work->next) fake_put(&(*executable)->work, *work);
    return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream)
{
    TRY(fake_usable(executable, EXECUTABLE));
    TRY(launchable());
    for (struct Work *work = executable->work.first; work; work = work->next)
        TRY(fake_enqueue(stream, *work, "cuGraphLaunch"));
    return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph)
{
    TRY(fake_usable(graph, GRAPH));
    return graph->object.alive = 0, CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec executable)
{
    TRY(fake_usable(executable, EXECUTABLE));
    return executable->object.alive = 0, CUDA_SUCCESS;
}

/* Whether a living executable graph calls a host function with `data` (for the simulated TensorRT). */
int fake_graph_calls(const void *data)
{
    for (struct Object *o = fake_objects(); o; o = o->next)
        if (o->alive && o->kind == EXECUTABLE)
            for (struct Work *work = ((CUgraphExec)o)->work.first; work; work = work->next)
                if (work->kind == HOST_FUNCTION && work->target == data) return 1;
    return 0;
}
