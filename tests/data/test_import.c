// Importers: IDX files, folders of images, fonts.
#include <sys/stat.h>
#include <zlib.h>

#include "base/json.h"
#include "data/charset.h"
#include "data/import.h"
#include "formats/image.h"
#include "scratch.h"

static ImportSettings settings_for(Scratch *scratch, char output[1024]) {
    ImportSettings settings = import_settings_default();
    assert_ok(scratch->ctx, file_path(output, scratch->ctx, "%s/out", scratch->folder));
    settings.output = output;
    return settings;
}

static Dataset *open_set(Scratch *scratch, const char *path) {
    Dataset *dataset;
    assert_ok(scratch->ctx, dataset_open(&dataset, scratch->ctx, path));
    return dataset;
}

static int64_t count_of(Scratch *scratch, const Dataset *dataset, const char *key) {
    const cJSON *counts;
    int64_t value;
    assert_ok(scratch->ctx, json_get_object(dataset->json, scratch->ctx, "set", "counts", &counts));
    assert_ok(scratch->ctx, json_get_int(counts, scratch->ctx, "set", key, 0, INT32_MAX, &value));
    return value;
}

static const uint8_t *sample(const Dataset *dataset, int64_t i) {
    return (const uint8_t *)dataset->images.array.data + i * dataset->size * dataset->size * dataset->channels;
}

// ---- IDX -----------------------------------------------------------------------------------------------------------

enum { IDX_SIDE = 4, IDX_PIXELS = IDX_SIDE * IDX_SIDE };

// n images, image i all of value 10 + i, label i % 3; `gz` compresses. Paths: <name>-images, <name>-labels.
static void write_idx(Scratch *scratch, const char *name, int n, bool gz, char images[1024], char labels[1024]) {
    uint8_t image_bytes[16 + 64 * IDX_PIXELS] = {0, 0, 8, 3, 0, 0, 0, (uint8_t)n, 0, 0, 0, IDX_SIDE, 0, 0, 0, IDX_SIDE};
    uint8_t label_bytes[8 + 64] = {0, 0, 8, 1, 0, 0, 0, (uint8_t)n};
    for (int i = 0; i < n; i++) {
        memset(image_bytes + 16 + i * IDX_PIXELS, 10 + i, IDX_PIXELS);
        label_bytes[8 + i] = (uint8_t)(i % 3);
    }
    assert_ok(scratch->ctx, file_path(images, scratch->ctx, "%s/%s-images", scratch->folder, name));
    assert_ok(scratch->ctx, file_path(labels, scratch->ctx, "%s/%s-labels", scratch->folder, name));
    assert_ok(scratch->ctx, file_write(scratch->ctx, labels, label_bytes, 8 + (size_t)n));
    if (!gz) {
        assert_ok(scratch->ctx, file_write(scratch->ctx, images, image_bytes, 16 + (size_t)n * IDX_PIXELS));
        return;
    }
    gzFile file = gzopen(images, "wb");
    assert_int_equal(gzwrite(file, image_bytes, 16 + (unsigned)n * IDX_PIXELS), 16 + n * IDX_PIXELS);
    assert_int_equal(gzclose(file), Z_OK);
}

static void test_idx_with_test_part(void **state) {
    Scratch *scratch = *state;
    char images[1024], labels[1024], test_images[1024], test_labels[1024], output[1024];
    write_idx(scratch, "train", 9, true, images, labels);
    write_idx(scratch, "test", 4, false, test_images, test_labels);
    ImportSettings settings = settings_for(scratch, output);
    settings.size = 7; // frame: 1 left and above, 2 right and below
    settings.channels = 3;
    assert_ok(scratch->ctx,
              import_idx(scratch->ctx, &settings, images, labels, test_images, test_labels, "top/up,b,c"));
    Dataset *dataset = open_set(scratch, output);
    assert_int_equal(dataset->train.count, 9);
    assert_int_equal(dataset->heldout.count, 4);
    assert_string_equal(dataset->classes[0].id, "top_up");
    assert_string_equal(dataset->classes[0].name, "top/up");
    for (int y = 0; y < 7; y++)
        for (int x = 0; x < 7; x++)
            for (int c = 0; c < 3; c++) // sample 3: label 1, first of it in the source: value 11
                assert_int_equal(sample(dataset, 3)[(y * 7 + x) * 3 + c], y >= 1 && y < 5 && x >= 1 && x < 5 ? 11 : 0);
    assert_int_equal(dataset_label(dataset, 3), 1);
    dataset_close(&dataset);
}

static void test_idx_heldout_share_and_classes(void **state) {
    Scratch *scratch = *state;
    char images[1024], labels[1024], output[1024];
    write_idx(scratch, "train", 60, false, images, labels);
    ImportSettings settings = settings_for(scratch, output);
    settings.size = 2;
    settings.heldout = 0.25;
    settings.classes = "2,0";
    assert_ok(scratch->ctx, import_idx(scratch->ctx, &settings, images, labels, NULL, NULL, NULL));
    Dataset *dataset = open_set(scratch, output);
    assert_int_equal(dataset->n, 40);
    assert_int_equal(dataset->n_classes, 2);
    assert_string_equal(dataset->classes[0].name, "0");
    assert_string_equal(dataset->classes[1].name, "2");
    assert_in_range(dataset->heldout.count, 1, 15); // 15 of 60, those of class 1 gone
    for (int64_t i = 0; i < dataset->n; i++)
        assert_int_equal(dataset_label(dataset, i), (sample(dataset, i)[0] - 10) % 3 == 0 ? 0 : 1);
    dataset_close(&dataset);
}

static void test_idx_refused(void **state) {
    Scratch *scratch = *state;
    char images[1024], labels[1024], fewer_images[1024], fewer[1024], output[1024];
    write_idx(scratch, "train", 9, false, images, labels);
    write_idx(scratch, "fewer", 8, false, fewer_images, fewer);
    ImportSettings settings = settings_for(scratch, output);
    assert_fails(scratch->ctx, import_idx(scratch->ctx, &settings, images, fewer, NULL, NULL, NULL),
                 KINDIT_ERROR_FORMAT, "expected 9 labels");
    assert_fails(scratch->ctx, import_idx(scratch->ctx, &settings, labels, labels, NULL, NULL, NULL),
                 KINDIT_ERROR_FORMAT, "found 1 dimensions");
    assert_fails(scratch->ctx, import_idx(scratch->ctx, &settings, images, labels, NULL, NULL, "a,b"),
                 KINDIT_ERROR_ARGUMENT, "2 classes");
    settings.classes = "7";
    assert_fails(scratch->ctx, import_idx(scratch->ctx, &settings, images, labels, NULL, NULL, NULL),
                 KINDIT_ERROR_ARGUMENT, "no class 7");
    assert_false(file_exists(output));
}

// ---- folders -------------------------------------------------------------------------------------------------------

static void copy_golden(Scratch *scratch, const char *golden, const char *name) {
    FileMap map;
    assert_ok(scratch->ctx, file_map(&map, scratch->ctx, scratch_golden(scratch, golden)));
    assert_ok(scratch->ctx, file_write(scratch->ctx, scratch_path(scratch, name), map.data, map.size));
    file_unmap(&map);
}

static void make_folder(Scratch *scratch, const char *name) {
    assert_ok(scratch->ctx, file_make_folder(scratch->ctx, scratch_path(scratch, name)));
}

// A picture of one colour.
static void write_flat(Scratch *scratch, const char *name, int width, int height, int r, int g, int b) {
    Image image;
    assert_ok(scratch->ctx, image_alloc(&image, scratch->ctx, width, height, 3));
    for (int i = 0; i < width * height; i++)
        memcpy(image.pixels + 3 * i, (uint8_t[]){(uint8_t)r, (uint8_t)g, (uint8_t)b}, 3);
    assert_ok(scratch->ctx, image_write_png(scratch->ctx, scratch_path(scratch, name), &image));
    image_close(&image);
}

// Classes "10", "2" and "cat"; one broken and one misplaced picture, one file of another kind.
static void make_tree(Scratch *scratch) {
    make_folder(scratch, "in/2/deep");
    make_folder(scratch, "in/10");
    make_folder(scratch, "in/cat");
    write_flat(scratch, "in/10/a.png", 40, 30, 200, 100, 50);
    write_flat(scratch, "in/2/deep/b.PNG", 8, 8, 1, 2, 3);
    copy_golden(scratch, "formats/grey.jpg", "in/2/c.jpeg");
    copy_golden(scratch, "formats/lossy.webp", "in/cat/d.webp");
    write_flat(scratch, "in/stray.png", 8, 8, 0, 0, 0);
    assert_ok(scratch->ctx,
              file_write(scratch->ctx, scratch_path(scratch, "in/cat/broken.jpg"), "\xff\xd8\xff\xe0 no", 7));
    assert_ok(scratch->ctx, file_write(scratch->ctx, scratch_path(scratch, "in/cat/readme.txt"), "x", 1));
}

static void test_folder(void **state) {
    Scratch *scratch = *state;
    char output[1024];
    make_tree(scratch);
    ImportSettings settings = settings_for(scratch, output);
    settings.size = 8;
    settings.channels = 3;
    settings.heldout = 0;
    settings.strict = true;
    assert_fails(scratch->ctx, import_folder(scratch->ctx, &settings, scratch_path(scratch, "in")), KINDIT_ERROR_FORMAT,
                 "broken.jpg");
    assert_false(file_exists(output));
    settings.strict = false;
    assert_ok(scratch->ctx, import_folder(scratch->ctx, &settings, scratch_path(scratch, "in/")));
    Dataset *dataset = open_set(scratch, output);
    assert_int_equal(dataset->n, 4);
    assert_int_equal(dataset->heldout.count, 0);
    const char *const ids[] = {"10", "2", "cat"}; // as strings, "10" before "2"
    for (int i = 0; i < 3; i++) assert_string_equal(dataset->classes[i].id, ids[i]);
    assert_memory_equal(sample(dataset, 0), ((uint8_t[]){200, 100, 50, 200, 100, 50}), 6);
    assert_memory_equal(sample(dataset, 2), ((uint8_t[]){1, 2, 3, 1, 2, 3}), 6); // in/2/deep after in/2/c.jpeg
    assert_int_equal(count_of(scratch, dataset, "broken"), 1);
    assert_int_equal(count_of(scratch, dataset, "outside_class_folders"), 1);
    assert_int_equal(count_of(scratch, dataset, "other_files"), 1);
    dataset_close(&dataset);
}

static void test_folder_empty_classes(void **state) {
    Scratch *scratch = *state;
    char output[1024];
    make_tree(scratch);
    make_folder(scratch, "in/dog");
    ImportSettings settings = settings_for(scratch, output);
    assert_fails(scratch->ctx, import_folder(scratch->ctx, &settings, scratch_path(scratch, "in")), KINDIT_ERROR_FORMAT,
                 "dog");
    assert_false(file_exists(output));
    settings.drop_empty = true;
    assert_ok(scratch->ctx, import_folder(scratch->ctx, &settings, scratch_path(scratch, "in")));
    Dataset *dataset = open_set(scratch, output);
    assert_int_equal(dataset->n_classes, 3);
    dataset_close(&dataset);
    make_folder(scratch, "nothing");
    assert_fails(scratch->ctx, import_folder(scratch->ctx, &settings, scratch_path(scratch, "nothing")),
                 KINDIT_ERROR_ARGUMENT, output); // there is a data set already
    char other[1024];
    assert_ok(scratch->ctx, file_path(other, scratch->ctx, "%s/out2", scratch->folder));
    settings.output = other;
    assert_fails(scratch->ctx, import_folder(scratch->ctx, &settings, scratch_path(scratch, "nothing")),
                 KINDIT_ERROR_FORMAT, "one folder a class");
    assert_fails(scratch->ctx, import_folder(scratch->ctx, &settings, scratch_path(scratch, "absent")), KINDIT_ERROR_IO,
                 "no such folder");
}

static void test_folder_merge_and_split(void **state) {
    Scratch *scratch = *state;
    char output[1024], merge[1024];
    const char *table = "superclass\tname\tmember\nanimal\tan animal\tcat\nanimal\tan animal\tdog\n";
    const char *const folders[] = {"bird", "cat", "dog"};
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < 10; i++) {
            char name[64];
            snprintf(name, sizeof name, "in/%s", folders[c]);
            make_folder(scratch, name);
            snprintf(name, sizeof name, "in/%s/%d.png", folders[c], i);
            write_flat(scratch, name, 4, 4, 20 * i, 0, 100 * c);
        }
    assert_ok(scratch->ctx, file_path(merge, scratch->ctx, "%s/merge.tsv", scratch->folder));
    assert_ok(scratch->ctx, file_write(scratch->ctx, merge, table, strlen(table)));
    ImportSettings settings = settings_for(scratch, output);
    settings.size = 4;
    settings.channels = 3;
    settings.heldout = 0.2;
    settings.merge = merge;
    assert_ok(scratch->ctx, import_folder(scratch->ctx, &settings, scratch_path(scratch, "in")));
    Dataset *dataset = open_set(scratch, output);
    assert_int_equal(dataset->n_classes, 2);
    assert_string_equal(dataset->classes[0].id, "animal"); // sorted by the ids after merging
    assert_string_equal(dataset->classes[0].name, "an animal");
    assert_string_equal(dataset->classes[1].id, "bird");
    assert_int_equal(dataset->train.count, 24);
    int heldout[3] = {0};
    for (int64_t i = 0; i < dataset->n; i++) {
        int source = sample(dataset, i)[2] / 100;
        assert_int_equal(dataset_label(dataset, i), source == 0);
        heldout[source] += i >= dataset->heldout.first;
    }
    for (int c = 0; c < 3; c++) assert_int_equal(heldout[c], 2); // a fifth of each source class
    dataset_close(&dataset);
}

// ---- glyphs --------------------------------------------------------------------------------------------------------

static const char *find_fonts(void) {
    static const char *const folders[] = {"/usr/share/fonts/truetype/aenigma", "/usr/share/fonts/truetype/adf",
                                          "/usr/share/fonts/truetype/dejavu", "/usr/share/fonts/truetype"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (file_is_folder(folders[i])) return folders[i];
    return NULL;
}

static void test_glyphs(void **state) {
    Scratch *scratch = *state;
    char output[1024], small[1024];
    const char *fonts = find_fonts();
    if (!fonts) skip();
    ImportSettings settings = settings_for(scratch, output);
    settings.size = 32;
    settings.heldout = 0.3;
    settings.classes = "O,o,H";
    assert_ok(scratch->ctx, import_glyphs(scratch->ctx, &settings, fonts, NULL));
    Dataset *dataset = open_set(scratch, output);
    int64_t faces = count_of(scratch, dataset, "faces"), families = count_of(scratch, dataset, "families");
    assert_in_range(faces, 3, 100000);
    assert_in_range(families, 1, faces);
    assert_int_equal(dataset->n, 3 * faces);
    int64_t sum = faces;
    const char *const reasons[] = {"unreadable", "incomplete", "blank", "overflow", "thin", "symbol", "duplicate"};
    for (size_t i = 0; i < 7; i++) sum += count_of(scratch, dataset, reasons[i]);
    assert_int_equal(sum, count_of(scratch, dataset, "files")); // every face is kept or counted
    assert_string_equal(dataset->classes[0].id, "H");
    assert_string_equal(dataset->classes[2].id, "lower-o");
    assert_string_equal(dataset->classes[2].name, "o");

    // Capitals stand on row 23 and are 18 high, give or take antialiasing; small letters are lower, on the same
    // baseline.
    double ink[3][32] = {{0}};
    for (int64_t i = 0; i < dataset->n; i++)
        for (int p = 0; p < 32 * 32; p++) ink[dataset_label(dataset, i)][p / 32] += sample(dataset, i)[p];
    for (int y = 0; y < 32; y++)
        if (y < 4 || y > 23) assert_true(ink[0][y] < 0.15 * ink[0][14]);
    assert_true(ink[0][6] > 0.3 * ink[0][14] && ink[0][22] > 0.3 * ink[0][14]);
    assert_true(ink[2][6] < 0.4 * ink[1][6]);
    dataset_close(&dataset);

    // The choice of faces does not depend on the size, and the same settings give the same bytes.
    assert_ok(scratch->ctx, file_path(small, scratch->ctx, "%s/small", scratch->folder));
    settings.size = 8;
    settings.output = small;
    assert_ok(scratch->ctx, import_glyphs(scratch->ctx, &settings, fonts, "A-Za-z0-9"));
    dataset = open_set(scratch, small);
    assert_int_equal(count_of(scratch, dataset, "faces"), faces);
    dataset_close(&dataset);
    settings.output = output;
    assert_ok(scratch->ctx, file_remove_tree(scratch->ctx, output));
    assert_ok(scratch->ctx, import_glyphs(scratch->ctx, &settings, fonts, NULL));
    dataset = open_set(scratch, output);
    Dataset *twin = open_set(scratch, small);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(dataset->json, "source_sha256")),
                        cJSON_GetStringValue(cJSON_GetObjectItem(twin->json, "source_sha256")));
    dataset_close(&dataset);
    dataset_close(&twin);
}

static void test_glyphs_broken_font(void **state) {
    Scratch *scratch = *state;
    char output[1024];
    make_folder(scratch, "fonts");
    assert_ok(scratch->ctx, file_write(scratch->ctx, scratch_path(scratch, "fonts/bad.ttf"), "not a font", 10));
    ImportSettings settings = settings_for(scratch, output);
    assert_fails(scratch->ctx, import_glyphs(scratch->ctx, &settings, scratch_path(scratch, "fonts"), NULL),
                 KINDIT_ERROR_FORMAT, "of 1 font files none");
    settings.strict = true;
    assert_fails(scratch->ctx, import_glyphs(scratch->ctx, &settings, scratch_path(scratch, "fonts"), NULL),
                 KINDIT_ERROR_FORMAT, "bad.ttf");
    assert_false(file_exists(output));
}

static void test_charset(void **state) {
    Scratch *scratch = *state;
    uint32_t *characters;
    size_t n;
    assert_ok(scratch->ctx, charset_parse(scratch->ctx, "A-Za-z0-9", &characters, &n));
    assert_int_equal(n, 62);
    assert_int_equal(characters[26], 'a');
    memory_free(&characters);
    assert_ok(scratch->ctx, charset_parse(scratch->ctx, "-AA-CЖ-Й€-", &characters, &n));
    const uint32_t expected[] = {'-', 'A', 'B', 'C', 0x416, 0x417, 0x418, 0x419, 0x20AC};
    assert_int_equal(n, 9);
    assert_memory_equal(characters, expected, sizeof expected);
    memory_free(&characters);
    const char *const bad[] = {"", "Z-A", "A B", "\xc3", "\xc0\x80", "A-\xff", "\xed\xa0\x80", "\x01", "A-\U0010FFFF"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_fails(scratch->ctx, charset_parse(scratch->ctx, bad[i], &characters, &n), KINDIT_ERROR_ARGUMENT,
                     "charset");
    ModelClass class;
    charset_class(0x416, &class);
    assert_string_equal(class.id, "u0416");
    assert_string_equal(class.name, "Ж");
    charset_class('z', &class);
    assert_string_equal(class.id, "lower-z");
    charset_class('-', &class);
    assert_string_equal(class.id, "u002D");
    charset_class(0x1F600, &class);
    assert_string_equal(class.name, "😀");
}

static bool always_cancelled(void *user) {
    (void)user;
    return true;
}

static void test_cancelled_leaves_nothing(void **state) {
    Scratch *scratch = *state;
    char output[1024];
    make_tree(scratch);
    ImportSettings settings = settings_for(scratch, output);
    scratch->ctx->settings.cancelled = always_cancelled;
    assert_fails(scratch->ctx, import_folder(scratch->ctx, &settings, scratch_path(scratch, "in")), KINDIT_CANCELLED,
                 "");
    assert_false(file_exists(output));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_idx_with_test_part),
        scratch_test(test_idx_heldout_share_and_classes),
        scratch_test(test_idx_refused),
        scratch_test(test_folder),
        scratch_test(test_folder_empty_classes),
        scratch_test(test_folder_merge_and_split),
        scratch_test(test_glyphs),
        scratch_test(test_glyphs_broken_font),
        scratch_test(test_charset),
        scratch_test(test_cancelled_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
