// Pictures of any kind that is read. Apart from the rest, so that a program that only writes needs no decoder.
#include <string.h>

#include "base/file.h"
#include "formats/image_codecs.h"

KinditStatus image_parse(Image *out, KinditContext *ctx, const char *name, const uint8_t *data, size_t size) {
    *out = (Image){0};
    KinditStatus status;
    if (size >= 8 && memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0)
        status = image_decode_png(out, ctx, name, data, size);
    else if (size >= 3 && memcmp(data, "\xff\xd8\xff", 3) == 0)
        status = image_decode_jpeg(out, ctx, name, data, size);
    else if (size >= 12 && memcmp(data, "RIFF", 4) == 0 && memcmp(data + 8, "WEBP", 4) == 0)
        status = image_decode_webp(out, ctx, name, data, size);
    else
        status = context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: expected a PNG, JPEG or WebP picture", name);
    if (status) image_close(out);
    return status;
}

KinditStatus image_read(Image *out, KinditContext *ctx, const char *path) {
    *out = (Image){0};
    FileMap map;
    TRY(file_map(&map, ctx, path));
    KinditStatus status = image_parse(out, ctx, path, map.data, map.size);
    file_unmap(&map);
    return status;
}
