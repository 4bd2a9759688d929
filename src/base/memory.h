// Memory with overflow-checked sizes, and an arena for things that die together.
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include "base/context.h"

// *out = zeroed array of count * size bytes, 64-byte aligned, freed with memory_free. Overflow and exhaustion are
// errors.
KinditStatus memory_alloc(KinditContext *ctx, size_t count, size_t size, void *out_pointer);
void memory_free(void *pointer_to_pointer); // frees and nulls; NULL inside is fine

// Product of sizes; false on overflow.
bool memory_multiply(size_t a, size_t b, size_t *out);

// Bytes of physical memory that the process has now; 0 where the system does not say.
size_t memory_resident(void);

// A bump allocator: grows in blocks, freed at once.
typedef struct Arena {
    struct ArenaBlock *blocks;
} Arena;
KinditStatus arena_alloc(Arena *arena, KinditContext *ctx, size_t count, size_t size, void *out_pointer);
KinditStatus arena_copy_string(Arena *arena, KinditContext *ctx, const char *text, char **out);
void arena_close(Arena *arena);

#endif
