#include "formats/grid.h"

#include <math.h>
#include <string.h>

enum { GAP = 2, MARGIN = 6, CAPTION_MAX = 20, PAPER = 245, INK = 30, FONT_SCALE = 2 };

// Where things lie, in dots of the page.
typedef struct Layout {
    int scale;                    // an image is magnified so much
    int tile, caption;            // side of a magnified image, width of the captions, both with their gap
    int n_blocks, rows_per_block; // rows are set in n_blocks columns
    int64_t block_width, width, height;
} Layout;

// Characters of a caption as shown; UTF-8 continuation bytes are not characters of their own.
static int caption_length(const char *text) {
    int n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xC0) != 0x80;
    return n < CAPTION_MAX ? n : CAPTION_MAX;
}

static void layout_blocks(Layout *layout, const Grid *grid, int n_blocks) {
    layout->n_blocks = n_blocks;
    layout->rows_per_block = (grid->n_rows + n_blocks - 1) / n_blocks;
    layout->block_width = layout->caption + (int64_t)grid->n_columns * layout->tile + MARGIN;
    layout->width = MARGIN + n_blocks * layout->block_width;
    layout->height = 2 * MARGIN + (int64_t)layout->rows_per_block * layout->tile;
}

static Layout layout_plan(const Grid *grid) {
    Layout layout = {.scale = grid->size >= 48 ? 1 : (48 + grid->size - 1) / grid->size};
    int longest = 0;
    for (int i = 0; i < grid->n_rows; i++) {
        int length = caption_length(grid->captions[i]);
        longest = length > longest ? length : longest;
    }
    layout.tile = layout.scale * grid->size + GAP;
    layout.caption = longest ? longest * (GRID_FONT_WIDTH + 1) * FONT_SCALE + MARGIN : 0;
    int best = 1;
    double best_distance = INFINITY;
    for (int n = 1; n <= grid->n_rows; n++) {
        layout_blocks(&layout, grid, n);
        double distance = fabs(log((double)layout.width / (double)layout.height / 1.4));
        if (distance < best_distance) {
            best_distance = distance;
            best = n;
        }
    }
    layout_blocks(&layout, grid, best);
    return layout;
}

static void draw_caption(Image *page, int left, int top, const char *text) {
    for (int n = caption_length(text); n > 0; text++) {
        if (((unsigned char)*text & 0xC0) == 0x80) continue;
        for (int y = 0; y < GRID_FONT_HEIGHT * FONT_SCALE; y++)
            for (int x = 0; x < GRID_FONT_WIDTH * FONT_SCALE; x++)
                if (grid_font_dot((unsigned char)*text, x / FONT_SCALE, y / FONT_SCALE)) {
                    size_t dot = (size_t)(top + y) * (size_t)page->width + (size_t)(left + x);
                    memset(page->pixels + dot * (size_t)page->channels, INK, (size_t)page->channels);
                }
        left += (GRID_FONT_WIDTH + 1) * FONT_SCALE;
        n--;
    }
}

static void draw_tile(Image *page, int left, int top, const Grid *grid, int scale, const uint8_t *pixels) {
    size_t channels = (size_t)grid->channels;
    for (int y = 0; y < grid->size * scale; y++)
        for (int x = 0; x < grid->size * scale; x++) {
            size_t from = ((size_t)(y / scale) * (size_t)grid->size + (size_t)(x / scale)) * channels;
            size_t to = ((size_t)(top + y) * (size_t)page->width + (size_t)(left + x)) * channels;
            memcpy(page->pixels + to, pixels + from, channels);
        }
}

KinditStatus grid_check(KinditContext *ctx, const Grid *grid) {
    if (grid->channels != 1 && grid->channels != 3)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "a picture needs 1 or 3 channels, found %d", grid->channels);
    Layout layout = layout_plan(grid);
    if (layout.width > IMAGE_MAX_SIDE || layout.height > IMAGE_MAX_SIDE)
        return context_fail(
            ctx, KINDIT_ERROR_ARGUMENT,
            "a grid of %d rows and %d columns is too large for a picture: draw fewer classes or samples", grid->n_rows,
            grid->n_columns);
    return KINDIT_OK;
}

KinditStatus grid_draw(Image *out, KinditContext *ctx, const Grid *grid) {
    *out = (Image){0};
    TRY(grid_check(ctx, grid));
    Layout layout = layout_plan(grid);
    TRY(image_alloc(out, ctx, (int)layout.width, (int)layout.height, grid->channels));
    memset(out->pixels, PAPER, (size_t)out->width * (size_t)out->height * (size_t)grid->channels);
    size_t image = (size_t)grid->size * (size_t)grid->size * (size_t)grid->channels;
    for (int row = 0; row < grid->n_rows; row++) {
        int left = MARGIN + row / layout.rows_per_block * (int)layout.block_width;
        int top = MARGIN + row % layout.rows_per_block * layout.tile;
        draw_caption(out, left, top + (layout.tile - GRID_FONT_HEIGHT * FONT_SCALE) / 2, grid->captions[row]);
        for (int column = 0; column < grid->n_columns; column++) {
            size_t i = (size_t)row * (size_t)grid->n_columns + (size_t)column;
            draw_tile(out, left + layout.caption + column * layout.tile, top, grid, layout.scale,
                      grid->pixels + i * image);
        }
    }
    return KINDIT_OK;
}
