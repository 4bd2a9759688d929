#include "formats/tensorboard.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/memory.h"
#include "event.pb-c.h"

struct Tensorboard {
    FILE *stream;
    char path[1024];
};

// CRC-32C (Castagnoli), rotated and offset as TFRecord stores it, so that a CRC of data that hold CRCs is not
// degenerate.
static uint32_t masked_crc(const uint8_t *data, size_t size) {
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
    }
    crc = ~crc;
    return (crc >> 15 | crc << 17) + 0xa282ead8;
}

static void store(uint8_t *out, uint64_t value, int n) {
    for (int i = 0; i < n; i++) out[i] = (uint8_t)(value >> (8 * i));
}

static KinditStatus write_event(Tensorboard *tb, KinditContext *ctx, Event *event) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    event->wall_time = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    size_t size = event__get_packed_size(event);
    uint8_t *record; // length (8), its CRC (4), the event, its CRC (4)
    TRY(memory_alloc(ctx, size + 16, 1, &record));
    store(record, size, 8);
    store(record + 8, masked_crc(record, 8), 4);
    event__pack(event, record + 12);
    store(record + 12 + size, masked_crc(record + 12, size), 4);
    bool written = fwrite(record, 1, size + 16, tb->stream) == size + 16;
    int error = errno;
    memory_free(&record);
    return written ? KINDIT_OK : context_fail(ctx, KINDIT_ERROR_IO, "%s: cannot write: %s", tb->path, strerror(error));
}

static KinditStatus open_stream(Tensorboard *tb, KinditContext *ctx, const char *folder) {
    time_t now = time(NULL);
    for (int attempt = 0; attempt < 100 && !tb->stream; attempt++) { // two runs may begin in one second
        TRY(file_path(tb->path, ctx, "%s/events.out.tfevents.%lld.kindit", folder, (long long)now + attempt));
        tb->stream = fopen(tb->path, "wbxe");
        if (!tb->stream && errno != EEXIST) break;
    }
    if (!tb->stream) return context_fail(ctx, KINDIT_ERROR_IO, "%s: cannot create: %s", tb->path, strerror(errno));
    Event event = EVENT__INIT;
    event.what_case = EVENT__WHAT_FILE_VERSION;
    event.file_version = (char[]){"brain.Event:2"};
    return write_event(tb, ctx, &event);
}

KinditStatus tensorboard_open(Tensorboard **out, KinditContext *ctx, const char *folder) {
    TRY(memory_alloc(ctx, 1, sizeof **out, out));
    KinditStatus status = open_stream(*out, ctx, folder);
    if (status) tensorboard_close(out);
    return status;
}

static KinditStatus write_value(Tensorboard *tb, KinditContext *ctx, const char *tag, int64_t step,
                                Summary__Value *value) {
    value->tag = (char *)(uintptr_t)tag; // protobuf-c only reads it
    Summary summary = SUMMARY__INIT;
    summary.n_value = 1;
    summary.value = &value;
    Event event = EVENT__INIT;
    event.step = step;
    event.what_case = EVENT__WHAT_SUMMARY;
    event.summary = &summary;
    return write_event(tb, ctx, &event);
}

KinditStatus tensorboard_add_scalar(Tensorboard *tb, KinditContext *ctx, const char *tag, int64_t step, double number) {
    Summary__Value value = SUMMARY__VALUE__INIT;
    value.value_case = SUMMARY__VALUE__VALUE_SIMPLE_VALUE;
    value.simple_value = (float)number;
    return write_value(tb, ctx, tag, step, &value);
}

KinditStatus tensorboard_add_image(Tensorboard *tb, KinditContext *ctx, const char *tag, int64_t step,
                                   const Image *image) {
    Summary__Image picture = SUMMARY__IMAGE__INIT;
    picture.height = image->height;
    picture.width = image->width;
    picture.colorspace = image->channels;
    uint8_t *png;
    TRY(image_encode_png(&png, &picture.encoded_image_string.len, ctx, image));
    picture.encoded_image_string.data = png;
    Summary__Value value = SUMMARY__VALUE__INIT;
    value.value_case = SUMMARY__VALUE__VALUE_IMAGE;
    value.image = &picture;
    KinditStatus status = write_value(tb, ctx, tag, step, &value);
    memory_free(&png);
    return status;
}

KinditStatus tensorboard_flush(Tensorboard *tb, KinditContext *ctx) {
    if (fflush(tb->stream) == 0) return KINDIT_OK;
    return context_fail(ctx, KINDIT_ERROR_IO, "%s: cannot write: %s", tb->path, strerror(errno));
}

void tensorboard_close(Tensorboard **tb) {
    if (!tb || !*tb) return;
    if ((*tb)->stream) fclose((*tb)->stream);
    memory_free(tb);
}
