#include "data/charset.h"

#include <stdio.h>
#include <string.h>

// Decodes one character of UTF-8 at *text and steps behind it; 0 for malformed, overlong or surrogate sequences, and at
// the end of the text.
static uint32_t decode(const char **text) {
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *bytes = (const unsigned char *)*text;
    size_t length = bytes[0] < 0x80   ? 1
                    : bytes[0] < 0xC0 ? 0
                    : bytes[0] < 0xE0 ? 2
                    : bytes[0] < 0xF0 ? 3
                    : bytes[0] < 0xF8 ? 4
                                      : 0;
    if (length == 0 || bytes[0] == 0) return 0;
    uint32_t value = length == 1 ? bytes[0] : bytes[0] & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xC0) != 0x80) return 0;
        value = value << 6 | (bytes[i] & 0x3Fu);
    }
    if (length > 1 && (value < smallest[length] || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))) return 0;
    *text += length;
    return value;
}

static void encode(uint32_t value, char out[5]) {
    size_t n = value < 0x80 ? 1 : value < 0x800 ? 2 : value < 0x10000 ? 3 : 4;
    out[n] = '\0';
    for (size_t i = n; i-- > 1; value >>= 6) out[i] = (char)(0x80 | (value & 0x3F));
    out[0] = (char)(n == 1 ? value : (0xF00u >> n & 0xFFu) | value);
}

static KinditStatus add_range(KinditContext *ctx, const char *text, uint32_t first, uint32_t last, uint32_t *out,
                              size_t *n) {
    if (first <= 0x20 || first == 0x7F || last < first)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "charset \"%s\": control characters, spaces and backward ranges make "
                            "no glyphs",
                            text);
    for (uint32_t character = first; character <= last; character++) {
        bool known = false;
        for (size_t i = 0; i < *n && !known; i++) known = out[i] == character;
        if (known) continue;
        if (*n == CHARSET_MAX)
            return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "charset \"%s\": more than %d characters", text,
                                CHARSET_MAX);
        out[(*n)++] = character;
    }
    return KINDIT_OK;
}

static KinditStatus parse(KinditContext *ctx, const char *text, uint32_t *out, size_t *n) {
    for (const char *rest = text; *rest;) {
        uint32_t first = decode(&rest), last = first;
        if (rest[0] == '-' && rest[1] != '\0') {
            rest++;
            last = decode(&rest);
        }
        if (first == 0 || last == 0)
            return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "charset \"%s\": not valid UTF-8", text);
        TRY(add_range(ctx, text, first, last, out, n));
    }
    if (*n == 0) return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "charset: expected characters, found none");
    return KINDIT_OK;
}

KinditStatus charset_parse(KinditContext *ctx, const char *text, uint32_t **out, size_t *n) {
    *n = 0;
    TRY(memory_alloc(ctx, CHARSET_MAX, sizeof **out, out));
    KinditStatus status = parse(ctx, text, *out, n);
    if (status) memory_free(out);
    return status;
}

void charset_class(uint32_t character, ModelClass *out) {
    bool upper_or_digit = (character >= 'A' && character <= 'Z') || (character >= '0' && character <= '9');
    *out = (ModelClass){0};
    encode(character, out->name);
    if (upper_or_digit)
        snprintf(out->id, sizeof out->id, "%c", (char)character);
    else if (character >= 'a' && character <= 'z')
        snprintf(out->id, sizeof out->id, "lower-%c", (char)character);
    else
        snprintf(out->id, sizeof out->id, "u%04X", (unsigned)character);
}
