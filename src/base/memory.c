#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MEMORY_ALIGNMENT = 64, HUGE_PAGE = 2 << 20, ARENA_ALIGNMENT = 16, ARENA_BLOCK_SIZE = 64 * 1024 };

struct ArenaBlock {
    struct ArenaBlock *next;
    size_t used, size; // bytes of `bytes`
    _Alignas(ARENA_ALIGNMENT) unsigned char bytes[];
};

bool memory_multiply(size_t a, size_t b, size_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}

// Zeroed. Large blocks lie in huge pages, as far as they fill them, where the system gives such to those who ask: a
// training step passes over so much memory that without them a tenth of it is the search for pages. Their zeros are the
// system's, page by page when one is touched: what never is, as the moments of a class that no sample had, is not
// there.
static void *allocate(size_t n_bytes) {
    void *memory = NULL;
    const size_t huge = n_bytes / HUGE_PAGE * HUGE_PAGE;
    size_t zeroed = 0;
    if (posix_memalign(&memory, huge > 0 ? HUGE_PAGE : MEMORY_ALIGNMENT, n_bytes) != 0) return NULL;
#ifdef MADV_HUGEPAGE
    if (huge > 0) madvise(memory, huge, MADV_HUGEPAGE);
#endif
#ifdef __linux__ // elsewhere the advice does not promise zeros
    if (huge > 0 && madvise(memory, huge, MADV_DONTNEED) == 0) zeroed = huge;
#endif
    memset((char *)memory + zeroed, 0, n_bytes - zeroed);
    return memory;
}

KinditStatus memory_alloc(KinditContext *ctx, size_t count, size_t size, void *out_pointer) {
    void *memory = NULL;
    memcpy(out_pointer, &memory, sizeof memory);
    size_t n_bytes;
    if (!memory_multiply(count, size, &n_bytes) || n_bytes > PTRDIFF_MAX - MEMORY_ALIGNMENT)
        return context_fail(ctx, KINDIT_ERROR_MEMORY, "%zu elements of %zu bytes are more than memory can address",
                            count, size);
    size_t rounded = (n_bytes / MEMORY_ALIGNMENT + 1) * MEMORY_ALIGNMENT; // never zero, so never NULL on success
    memory = allocate(rounded);
    if (!memory) return context_fail(ctx, KINDIT_ERROR_MEMORY, "out of memory: %zu bytes asked for", n_bytes);
    memcpy(out_pointer, &memory, sizeof memory); // the caller's pointer has a type of its own
    return KINDIT_OK;
}

void memory_free(void *pointer_to_pointer) {
    void *memory, *null = NULL;
    memcpy(&memory, pointer_to_pointer, sizeof memory);
    free(memory);
    memcpy(pointer_to_pointer, &null, sizeof null);
}

// Summed up by the kernel at this moment, where its other counts may lag behind.
size_t memory_resident(void) {
    char line[256];
    size_t kilobytes = 0;
    FILE *file = fopen("/proc/self/smaps_rollup", "re");
    while (file && !kilobytes && fgets(line, sizeof line, file)) sscanf(line, "Rss: %zu kB", &kilobytes);
    if (file) fclose(file);
    return kilobytes * 1024;
}

KinditStatus arena_alloc(Arena *arena, KinditContext *ctx, size_t count, size_t size, void *out_pointer) {
    void *memory = NULL;
    memcpy(out_pointer, &memory, sizeof memory);
    size_t n_bytes;
    if (!memory_multiply(count, size, &n_bytes) || n_bytes > PTRDIFF_MAX - ARENA_BLOCK_SIZE)
        return context_fail(ctx, KINDIT_ERROR_MEMORY, "%zu elements of %zu bytes are more than memory can address",
                            count, size);
    size_t rounded = (n_bytes / ARENA_ALIGNMENT + 1) * ARENA_ALIGNMENT;
    struct ArenaBlock *block = arena->blocks;
    if (!block || block->size - block->used < rounded) {
        size_t capacity = rounded > ARENA_BLOCK_SIZE ? rounded : ARENA_BLOCK_SIZE;
        TRY(memory_alloc(ctx, 1, sizeof *block + capacity, &block));
        *block = (struct ArenaBlock){.next = arena->blocks, .size = capacity};
        arena->blocks = block;
    }
    memory = block->bytes + block->used;
    block->used += rounded;
    memcpy(out_pointer, &memory, sizeof memory);
    return KINDIT_OK;
}

KinditStatus arena_copy_string(Arena *arena, KinditContext *ctx, const char *text, char **out) {
    size_t size = strlen(text) + 1;
    TRY(arena_alloc(arena, ctx, size, 1, out));
    memcpy(*out, text, size);
    return KINDIT_OK;
}

void arena_close(Arena *arena) {
    while (arena->blocks) {
        struct ArenaBlock *block = arena->blocks;
        arena->blocks = block->next;
        memory_free(&block);
    }
}
