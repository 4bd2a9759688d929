// The captioned grid: what is where, at which size.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above
#include <cmocka.h>
#include <string.h>

#include "formats/grid.h"

enum { SIZE = 4, ROWS = 3, COLUMNS = 2 };

// Image i of the grid is filled with 10 * (i + 1).
static void fill(uint8_t *pixels, int channels) {
    size_t image = (size_t)SIZE * SIZE * (size_t)channels;
    for (size_t i = 0; i < ROWS * COLUMNS; i++) memset(pixels + i * image, (int)(10 * (i + 1)), image);
}

static size_t count(const Image *page, uint8_t value) {
    size_t n = 0, size = (size_t)page->width * (size_t)page->height * (size_t)page->channels;
    for (size_t i = 0; i < size; i++) n += page->pixels[i] == value;
    return n;
}

static void test_every_image_is_there_once(void **state) {
    (void)state;
    const char *captions[ROWS] = {"", "", ""};
    for (int channels = 1; channels <= 3; channels += 2) {
        uint8_t pixels[ROWS * COLUMNS * SIZE * SIZE * 3];
        fill(pixels, channels);
        Grid grid = {SIZE, channels, ROWS, COLUMNS, captions, pixels};
        Image page;
        assert_int_equal(grid_draw(&page, NULL, &grid), KINDIT_OK);
        assert_int_equal(page.channels, channels);
        size_t side = 48; // small images are magnified to 48 dots
        for (int i = 0; i < ROWS * COLUMNS; i++)
            assert_int_equal(count(&page, (uint8_t)(10 * (i + 1))), side * side * (size_t)channels);
        image_close(&page);
    }
}

static void test_large_images_keep_their_size(void **state) {
    (void)state;
    static uint8_t pixels[100 * 100];
    memset(pixels, 7, sizeof pixels);
    const char *captions[1] = {"A"};
    Grid grid = {100, 1, 1, 1, captions, pixels};
    Image page;
    assert_int_equal(grid_draw(&page, NULL, &grid), KINDIT_OK);
    assert_int_equal(count(&page, 7), 100 * 100);
    image_close(&page);
}

static void test_captions_are_drawn_and_cut(void **state) {
    (void)state;
    uint8_t pixels[SIZE * SIZE] = {0};
    const char *captions[1] = {"I"};
    Grid grid = {SIZE, 1, 1, 1, captions, pixels};
    Image one, many;
    assert_int_equal(grid_draw(&one, NULL, &grid), KINDIT_OK);
    size_t dots = 0;
    for (int y = 0; y < GRID_FONT_HEIGHT; y++)
        for (int x = 0; x < GRID_FONT_WIDTH; x++) dots += grid_font_dot('I', x, y);
    assert_int_equal(count(&one, 30), dots * 4); // 2 x 2 dots of ink each
    captions[0] = "\xc3\xa4 name of sixty characters, which is far more than is shown.....";
    assert_int_equal(grid_draw(&many, NULL, &grid), KINDIT_OK);
    assert_true(many.width - one.width == 19 * (GRID_FONT_WIDTH + 1) * 2);
    image_close(&one);
    image_close(&many);
}

static void test_what_is_no_picture_is_refused(void **state) {
    (void)state;
    uint8_t pixels[4] = {0};
    const char *captions[1] = {""};
    Image page;
    assert_int_equal(grid_draw(&page, NULL, &(Grid){1, 4, 1, 1, captions, pixels}), KINDIT_ERROR_ARGUMENT);
    assert_int_equal(grid_draw(&page, NULL, &(Grid){1, 1, 1, 1 << 30, captions, pixels}), KINDIT_ERROR_ARGUMENT);
    assert_int_equal(grid_check(NULL, &(Grid){1, 1, 1, 1 << 30, captions, NULL}), KINDIT_ERROR_ARGUMENT);
    assert_int_equal(grid_check(NULL, &(Grid){1, 1, 1, 4, captions, NULL}), KINDIT_OK);
}

static void test_characters_differ(void **state) {
    (void)state;
    uint64_t seen[95];
    for (int c = 32; c < 127; c++) {
        uint64_t bits = 0;
        for (int y = 0; y < GRID_FONT_HEIGHT; y++)
            for (int x = 0; x < GRID_FONT_WIDTH; x++) bits = bits << 1 | grid_font_dot((unsigned char)c, x, y);
        for (int other = 32; other < c; other++) assert_true(bits != seen[other - 32]);
        seen[c - 32] = bits;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_image_is_there_once),  cmocka_unit_test(test_large_images_keep_their_size),
        cmocka_unit_test(test_captions_are_drawn_and_cut), cmocka_unit_test(test_what_is_no_picture_is_refused),
        cmocka_unit_test(test_characters_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
