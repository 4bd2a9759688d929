// Data sets written and read back: sorted, complete or absent, checked when opened.
#include <dirent.h>

#include "base/json.h"
#include "data/dataset.h"
#include "data/sample_batch.h"
#include "scratch.h"

enum { SIDE = 2, BYTES = SIDE * SIDE };

static DatasetWriter *begin(Scratch *scratch) {
    DatasetWriter *writer;
    assert_ok(scratch->ctx,
              dataset_writer_create(&writer, scratch->ctx, scratch_path(scratch, "made/set"), "test", SIDE, 1));
    return writer;
}

static void add_class(Scratch *scratch, DatasetWriter *writer, const char *id, int expected) {
    int index = -1;
    assert_ok(scratch->ctx, dataset_writer_class(writer, id, id, &index));
    assert_int_equal(index, expected);
}

static void add(Scratch *scratch, DatasetWriter *writer, int class_index, bool heldout, int value) {
    uint8_t pixels[BYTES];
    memset(pixels, value, BYTES);
    assert_ok(scratch->ctx, dataset_writer_add(writer, class_index, heldout, pixels));
}

// Classes b, a (in this order); values 0..5 of which 2 and 3 are held out.
static void write_example(Scratch *scratch) {
    DatasetWriter *writer = begin(scratch);
    add_class(scratch, writer, "b", 0);
    add_class(scratch, writer, "a", 1);
    add_class(scratch, writer, "b", 0);
    const int class_of[] = {1, 0, 1, 0, 0, 1};
    for (int i = 0; i < 6; i++) add(scratch, writer, class_of[i], i == 2 || i == 3, i);
    cJSON *details = cJSON_CreateObject(), *counts = cJSON_CreateObject();
    cJSON_AddNumberToObject(counts, "broken", 3);
    assert_ok(scratch->ctx, dataset_writer_finish(&writer, details, counts, false));
    assert_null(writer);
    cJSON_Delete(details);
    cJSON_Delete(counts);
}

static int count_entries(const char *folder) {
    DIR *directory = opendir(folder);
    if (!directory) return 0;
    int n = 0;
    for (struct dirent *entry; (entry = readdir(directory));) n += entry->d_name[0] != '.';
    closedir(directory);
    return n;
}

static void test_round_trip(void **state) {
    Scratch *scratch = *state;
    Dataset *dataset;
    write_example(scratch);
    assert_int_equal(count_entries(scratch_path(scratch, "made")), 1); // no temporary is left
    assert_int_equal(count_entries(scratch_path(scratch, "made/set")), 3);
    assert_ok(scratch->ctx, dataset_open(&dataset, scratch->ctx, scratch_path(scratch, "made/set")));
    assert_false(dataset->latents);
    assert_int_equal(dataset->size, SIDE);
    assert_int_equal(dataset->channels, 1);
    assert_int_equal(dataset->n, 6);
    assert_int_equal(dataset->n_classes, 2);
    assert_string_equal(dataset->classes[0].id, "b");
    assert_int_equal(dataset_find_class(dataset, "a"), 1);
    assert_int_equal(dataset_find_class(dataset, "c"), -1);
    assert_int_equal(dataset->train.first, 0);
    assert_int_equal(dataset->train.count, 4);
    assert_int_equal(dataset->heldout.first, 4);
    assert_int_equal(dataset->heldout.count, 2);
    const int labels[] = {0, 0, 1, 1, 0, 1}, values[] = {1, 4, 0, 5, 3, 2}; // by split, class, arrival
    for (int i = 0; i < 6; i++) {
        assert_int_equal(dataset_label(dataset, i), labels[i]);
        assert_int_equal(((const uint8_t *)dataset->images.array.data)[i * BYTES], values[i]);
    }
    const cJSON *counts;
    int64_t broken;
    assert_ok(scratch->ctx, json_get_object(dataset->json, scratch->ctx, "set", "counts", &counts));
    assert_ok(scratch->ctx, json_get_int(counts, scratch->ctx, "set", "broken", 3, 3, &broken));
    dataset_close(&dataset);
    assert_null(dataset);
}

static void test_existing_is_kept(void **state) {
    Scratch *scratch = *state;
    DatasetWriter *writer;
    write_example(scratch);
    KinditStatus status = dataset_writer_create(&writer, scratch->ctx, scratch_path(scratch, "made/set"), "x", SIDE, 1);
    assert_int_not_equal(status, KINDIT_OK);
    assert_non_null(strstr(kindit_context_message(scratch->ctx), "made/set"));
    assert_null(writer);
    assert_int_equal(count_entries(scratch_path(scratch, "made/set")), 3);
    assert_ok(scratch->ctx, file_make_folder(scratch->ctx, scratch_path(scratch, "empty")));
    assert_ok(scratch->ctx,
              dataset_writer_create(&writer, scratch->ctx, scratch_path(scratch, "empty/"), "x", SIDE, 1));
    dataset_writer_abandon(&writer);
}

static void test_abandoned_leaves_nothing(void **state) {
    Scratch *scratch = *state;
    DatasetWriter *writer = begin(scratch);
    add_class(scratch, writer, "a", 0);
    add(scratch, writer, 0, false, 1);
    assert_int_equal(count_entries(scratch_path(scratch, "made")), 1);
    dataset_writer_abandon(&writer);
    dataset_writer_abandon(&writer);
    assert_int_equal(count_entries(scratch_path(scratch, "made")), 0);
}

static void test_class_ids(void **state) {
    Scratch *scratch = *state;
    KinditContext *ctx = scratch->ctx;
    DatasetWriter *writer = begin(scratch);
    uint8_t pixels[BYTES] = {0};
    int index;
    add_class(scratch, writer, "Cat", 0);
    assert_fails(ctx, dataset_writer_class(writer, "cat", "cat", &index), KINDIT_ERROR_ARGUMENT, "case only");
    assert_fails(ctx, dataset_writer_class(writer, "Cat", "lion", &index), KINDIT_ERROR_ARGUMENT, "stands for both");
    assert_fails(ctx, dataset_writer_class(writer, "../x", "x", &index), KINDIT_ERROR_ARGUMENT, "../x");
    assert_fails(ctx, dataset_writer_class(writer, ".x", "x", &index), KINDIT_ERROR_ARGUMENT, ".x");
    assert_fails(ctx, dataset_writer_class(writer, "", "x", &index), KINDIT_ERROR_ARGUMENT, "letters");
    assert_fails(ctx, dataset_writer_add(writer, 1, false, pixels), KINDIT_ERROR_ARGUMENT, "class 1");
    assert_fails(ctx, dataset_writer_add(writer, -1, false, pixels), KINDIT_ERROR_ARGUMENT, "class -1");
    dataset_writer_abandon(&writer);
}

static void test_empty_classes(void **state) {
    Scratch *scratch = *state;
    for (int drop = 0; drop < 2; drop++) {
        DatasetWriter *writer = begin(scratch);
        add_class(scratch, writer, "none", 0);
        add_class(scratch, writer, "full", 1);
        add_class(scratch, writer, "heldout-only", 2);
        add(scratch, writer, 2, true, 7);
        add(scratch, writer, 1, false, 8);
        if (drop == 0) {
            assert_fails(scratch->ctx, dataset_writer_finish(&writer, NULL, NULL, false), KINDIT_ERROR_FORMAT,
                         "2 of 3 classes have no training sample: none, heldout-only");
            assert_int_equal(count_entries(scratch_path(scratch, "made")), 0);
        } else {
            assert_ok(scratch->ctx, dataset_writer_finish(&writer, NULL, NULL, true));
        }
    }
    Dataset *dataset;
    assert_ok(scratch->ctx, dataset_open(&dataset, scratch->ctx, scratch_path(scratch, "made/set")));
    assert_int_equal(dataset->n, 1);
    assert_int_equal(dataset->n_classes, 1);
    assert_string_equal(dataset->classes[0].id, "full");
    assert_int_equal(dataset_label(dataset, 0), 0);
    dataset_close(&dataset);
    DatasetWriter *writer;
    assert_ok(scratch->ctx, dataset_writer_create(&writer, scratch->ctx, scratch_path(scratch, "none"), "x", SIDE, 1));
    assert_fails(scratch->ctx, dataset_writer_finish(&writer, NULL, NULL, true), KINDIT_ERROR_FORMAT,
                 "no usable image");
}

// Replaces `from` by `to` in dataset.json; opening must then fail with `message`.
static void assert_damage_found(Scratch *scratch, const char *from, const char *to, const char *message) {
    Dataset *dataset;
    FileMap map;
    char text[4096] = "", changed[4096];
    assert_ok(scratch->ctx, file_map(&map, scratch->ctx, scratch_path(scratch, "made/set/dataset.json")));
    assert_true(map.size < sizeof text);
    memcpy(text, map.data, map.size);
    file_unmap(&map);
    char *at = strstr(text, from);
    if (!at) fail_msg("dataset.json lacks %s", from);
    snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    assert_ok(scratch->ctx,
              file_write(scratch->ctx, scratch_path(scratch, "made/set/dataset.json"), changed, strlen(changed)));
    assert_fails(scratch->ctx, dataset_open(&dataset, scratch->ctx, scratch_path(scratch, "made/set")),
                 KINDIT_ERROR_FORMAT, message);
    assert_null(dataset);
    assert_ok(scratch->ctx,
              file_write(scratch->ctx, scratch_path(scratch, "made/set/dataset.json"), text, strlen(text)));
}

static void test_damaged_json(void **state) {
    Scratch *scratch = *state;
    Dataset *dataset;
    write_example(scratch);
    assert_damage_found(scratch, "\"format\":\t1", "\"format\": 2", "format");
    assert_damage_found(scratch, "\"image_size\":\t2", "\"image_size\": 3", "image_size 3");
    assert_damage_found(scratch, "\"channels\":\t1", "\"channels\": 3", "channels 3");
    assert_damage_found(scratch, "[0, 4]", "[0, 7]", "train");
    assert_damage_found(scratch, "[4, 2]", "[5, 2]", "heldout");
    assert_damage_found(scratch, "[4, 2]", "[-1, 2]", "heldout");
    assert_damage_found(scratch, "[4, 2]", "[4, \"2\"]", "heldout");
    assert_damage_found(scratch, "\"id\":\t\"a\"", "\"id\": \"b\"", "appears twice");
    assert_damage_found(scratch, "\"id\":\t\"a\"", "\"id\": \"a/b\"", "a/b");
    assert_damage_found(scratch, ", {\n\t\t\t\"id\":\t\"a\",\n\t\t\t\"name\":\t\"a\"\n\t\t}", "",
                        "expected 0..0, found 1");
    assert_ok(scratch->ctx, dataset_open(&dataset, scratch->ctx, scratch_path(scratch, "made/set"))); // undamaged again
    dataset_close(&dataset);
}

static void test_missing_parts(void **state) {
    Scratch *scratch = *state;
    Dataset *dataset;
    assert_fails(scratch->ctx, dataset_open(&dataset, scratch->ctx, scratch->folder), KINDIT_ERROR_IO, "kindit data");
    write_example(scratch);
    assert_int_equal(remove(scratch_path(scratch, "made/set/images.npy")), 0);
    assert_fails(scratch->ctx, dataset_open(&dataset, scratch->ctx, scratch_path(scratch, "made/set")),
                 KINDIT_ERROR_FORMAT, "neither images.npy nor latents.npy");
}

static Tensor tensor(const char *name, Dtype dtype, int n_dims, const int64_t *shape, const void *data) {
    Tensor result = {.name = name, .dtype = dtype, .n_dims = n_dims, .n_elements = 1, .data = data};
    for (int i = 0; i < n_dims; i++) {
        result.shape[i] = shape[i];
        result.n_elements *= (size_t)shape[i];
    }
    result.n_bytes = result.n_elements * dtype_size(dtype);
    return result;
}

// A sample batch numbers classes as its model does; the ids carry them over.
static void test_sample_batch(void **state) {
    Scratch *scratch = *state;
    KinditContext *ctx = scratch->ctx;
    Dataset *dataset;
    SampleBatch batch;
    write_example(scratch);
    assert_ok(ctx, dataset_open(&dataset, ctx, scratch_path(scratch, "made/set")));
    uint8_t pixels[2 * BYTES] = {9}, ids[3][DIT_CLASS_NAME_SIZE] = {"unknown", "a", "b"};
    int64_t labels[2] = {1, 2};
    Tensor arrays[3] = {tensor("arr_0", DTYPE_U8, 4, (int64_t[]){2, SIDE, SIDE, 1}, pixels),
                        tensor("arr_1", DTYPE_I64, 1, (int64_t[]){2}, labels),
                        tensor("class_ids", DTYPE_U8, 2, (int64_t[]){3, DIT_CLASS_NAME_SIZE}, ids)};
    const char *path = scratch_path(scratch, "samples.npz");
    assert_ok(ctx, npz_write(ctx, path, arrays, 3));
    assert_ok(ctx, sample_batch_open(&batch, ctx, path, dataset));
    assert_int_equal(batch.n, 2);
    assert_int_equal(batch.labels[0], 1);
    assert_int_equal(batch.labels[1], 0);
    assert_int_equal(sample_batch_pixels(&batch)[0], 9);
    sample_batch_close(&batch);
    labels[0] = 0;
    assert_ok(ctx, npz_write(ctx, path, arrays, 3));
    assert_fails(ctx, sample_batch_open(&batch, ctx, path, dataset), KINDIT_ERROR_ARGUMENT, "\"unknown\"");
    labels[0] = 3;
    assert_ok(ctx, npz_write(ctx, path, arrays, 3));
    assert_fails(ctx, sample_batch_open(&batch, ctx, path, dataset), KINDIT_ERROR_FORMAT, "found 3");
    assert_ok(ctx, npz_write(ctx, path, arrays, 2));
    assert_fails(ctx, sample_batch_open(&batch, ctx, path, dataset), KINDIT_ERROR_FORMAT,
                 "no array \"class_ids\"; wanted are arr_0, arr_1 and class_ids");
    arrays[0] = tensor("arr_0", DTYPE_U8, 4, (int64_t[]){1, SIDE, SIDE, 2}, pixels);
    assert_ok(ctx, npz_write(ctx, path, arrays, 3));
    assert_fails(ctx, sample_batch_open(&batch, ctx, path, dataset), KINDIT_ERROR_FORMAT, "do not match");
    dataset_close(&dataset);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_round_trip),
        scratch_test(test_existing_is_kept),
        scratch_test(test_abandoned_leaves_nothing),
        scratch_test(test_class_ids),
        scratch_test(test_empty_classes),
        scratch_test(test_damaged_json),
        scratch_test(test_missing_parts),
        scratch_test(test_sample_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
