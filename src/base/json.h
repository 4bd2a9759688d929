// JSON over cJSON with what untrusted input needs: a depth limit, a length, duplicate keys refused, and typed getters
// whose errors name the key.
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <cjson/cJSON.h>

#include "base/context.h"

// Parses exactly `size` bytes (need not end in NUL). Nesting above 64, trailing bytes and duplicate keys of one object
// are format errors. `name` is used in messages. Caller frees with cJSON_Delete.
KinditStatus json_parse(cJSON **out, KinditContext *ctx, const char *name, const void *data, size_t size);
KinditStatus json_read(cJSON **out, KinditContext *ctx, const char *path);
// Pretty-printed, atomic. Every double reads back exactly; NaN and infinity are refused (KINDIT_ERROR_NUMERIC).
KinditStatus json_write(KinditContext *ctx, const char *path, const cJSON *value);

// Adds a copy of `item` under that key; of NULL, nothing. False: out of memory.
bool json_add_copy(cJSON *object, const char *key, const cJSON *item);

// Typed getters. A missing key or another type is a format error naming `name` and `key`; ranges are inclusive.
// Integers beyond 2^53 do not survive JSON and are refused: keep a 64-bit seed as a string.
KinditStatus json_get_int(const cJSON *object, KinditContext *ctx, const char *name, const char *key, int64_t low,
                          int64_t high, int64_t *out);
KinditStatus json_get_double(const cJSON *object, KinditContext *ctx, const char *name, const char *key, double *out);
KinditStatus json_get_bool(const cJSON *object, KinditContext *ctx, const char *name, const char *key, bool *out);
KinditStatus json_get_string(const cJSON *object, KinditContext *ctx, const char *name, const char *key,
                             const char **out); // borrowed from `object`
KinditStatus json_get_object(const cJSON *object, KinditContext *ctx, const char *name, const char *key,
                             const cJSON **out);
KinditStatus json_get_array(const cJSON *object, KinditContext *ctx, const char *name, const char *key,
                            const cJSON **out);

#endif
