// Sets of characters in writing, and the classes they make.
#ifndef DATA_CHARSET_H
#define DATA_CHARSET_H

#include "data/dataset.h"

enum { CHARSET_MAX = 4096 };

// "A-Za-z0-9": UTF-8 characters and ranges of them; '-' stands for itself when first or last. *out (n Unicode code
// points in the order written, owned by the caller, freed with memory_free) holds no character twice. An empty or
// backward range, malformed UTF-8 and control characters or spaces are errors.
KinditStatus charset_parse(KinditContext *ctx, const char *text, uint32_t **out, size_t *n);

// The class of a character. The name is the character itself; the id is safe in file names even where case is ignored:
// "A".."Z", "0".."9", "lower-a".."lower-z", "u" and hexadecimal digits for all others.
void charset_class(uint32_t character, ModelClass *out);

#endif
