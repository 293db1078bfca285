/* Memory, and the calls that reserve and free it. Device memory is the host's too, but only work may look into it. */
#include "fake_cuda.h"
#include <stdlib.h>
#include <string.h>

struct Block {
    struct Object object;
    char *start;
    size_t bytes;
};

/* The living block of one of the `kinds`, a bit each, that holds all these bytes; NULL where there is none. */
static struct Block *holding(const void *address, size_t bytes, unsigned kinds)
{
    const char *from = address;
    struct Object *o;
    pthread_mutex_lock(&fake_lock);
    for (o = fake_objects(); o; o = o->next) {
        struct Block *b = (struct Block *)o;
        if (o->alive && (kinds >> o->kind & 1) && from >= b->start && from + bytes <= b->start + b->bytes) break;
    }
    pthread_mutex_unlock(&fake_lock);
    return (struct Block *)o;
}

int fake_on_device(const void *address, size_t bytes)
{
    return holding(address, bytes, 1 << DEVICE_MEMORY | 1 << MAPPED_MEMORY) != NULL;
}

int fake_pinned(const void *address, size_t bytes)
{
    return holding(address, bytes, 1 << PINNED_MEMORY | 1 << MAPPED_MEMORY) != NULL;
}

/* Bytes of the GPU's memory in use; an integrated one shares it with page-locked memory. */
unsigned long long fake_used_memory(void)
{
    unsigned long long used = 0;
    pthread_mutex_lock(&fake_lock);
    for (struct Object *o = fake_objects(); o; o = o->next)
        if (o->alive && (o->kind == DEVICE_MEMORY || (fake.integrated && o->kind > DEVICE_MEMORY)))
            used += ((struct Block *)o)->bytes;
    pthread_mutex_unlock(&fake_lock);
    return used;
}

static CUresult allocate(void **start, size_t bytes, enum Kind kind)
{
    TRY(fake_ready());
    TRY(fake_forbidden_in_capture());
    if (!bytes) return CUDA_ERROR_INVALID_VALUE;
    if (fake.fail_allocation == 1) return CUDA_ERROR_OUT_OF_MEMORY; /* and again: pycuda collects garbage and retries */
    if (fake.fail_allocation) fake.fail_allocation--;
    if ((kind == DEVICE_MEMORY || fake.integrated) && fake_used_memory() + bytes > fake.total_memory)
        return CUDA_ERROR_OUT_OF_MEMORY;
    char *memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!memory) return CUDA_ERROR_OUT_OF_MEMORY;
    memset(memory, POISON, bytes);
    struct Block *block = fake_new(kind, sizeof *block);
    block->bytes = bytes, block->start = memory, *start = memory;
    return CUDA_SUCCESS;
}

/* The memory itself is kept a while: whoever still reads it finds poison, and no new block takes its address. */
static CUresult release(void *start, unsigned kinds)
{
    static char *kept[64];
    static unsigned next;
    TRY(fake_ready());
    TRY(fake_forbidden_in_capture());
    struct Block *block = holding(start, 1, kinds);
    if (!block || block->start != start) return CUDA_ERROR_INVALID_VALUE;
    memset(start, POISON, block->bytes);
    pthread_mutex_lock(&fake_lock);
    block->object.alive = 0;
    free(kept[next % 64]);
    kept[next++ % 64] = start;
    pthread_mutex_unlock(&fake_lock);
    return CUDA_SUCCESS;
}

CUresult cuMemAlloc(CUdeviceptr *address, size_t bytes)
{
    return allocate((void **)address, bytes, DEVICE_MEMORY);
}

CUresult cuMemFree(CUdeviceptr address) { return release((void *)address, 1 << DEVICE_MEMORY); }

CUresult cuMemHostAlloc(void **memory, size_t bytes, unsigned flags)
{
    return allocate(memory, bytes, flags & CU_MEMHOSTALLOC_DEVICEMAP ? MAPPED_MEMORY : PINNED_MEMORY);
}

CUresult cuMemFreeHost(void *memory)
{
    return release(memory, 1 << PINNED_MEMORY | 1 << MAPPED_MEMORY);
}

CUresult cuMemHostGetDevicePointer(CUdeviceptr *address, void *memory, unsigned flags)
{
    TRY(fake_ready());
    if (!holding(memory, 1, 1 << MAPPED_MEMORY)) return CUDA_ERROR_INVALID_VALUE;
    return *address = (CUdeviceptr)memory, CUDA_SUCCESS;
}

CUresult cuMemGetInfo(size_t *unused, size_t *total)
{
    TRY(fake_ready());
    return *unused = fake.total_memory - fake_used_memory(), *total = fake.total_memory, CUDA_SUCCESS;
}
