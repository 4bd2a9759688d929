#include "data/glyph_render.h"

#include <ctype.h>
#include <math.h>
#include <string.h>
#include <strings.h>

#include FT_BBOX_H
#include FT_OUTLINE_H

// Of a picture of 32 pixels.
static const double CAP_PIXELS = 18.0, BASELINE_PIXELS = 23.0, OVERFLOW_PIXELS = 0.5;

static bool load_outline(FT_Face face, uint32_t character, FT_BBox *box) {
    FT_UInt index = FT_Get_Char_Index(face, character);
    return index != 0 && FT_Load_Glyph(face, index, FT_LOAD_NO_SCALE) == 0 &&
           face->glyph->format == FT_GLYPH_FORMAT_OUTLINE && FT_Outline_Get_BBox(&face->glyph->outline, box) == 0;
}

static const char *face_load(GlyphFace *out, const char *path) {
    if (FT_Init_FreeType(&out->library)) return "FreeType does not start";
    if (FT_New_Face(out->library, path, 0, &out->face)) return "not a font that FreeType can read";
    if (!FT_IS_SCALABLE(out->face)) return "a font without outlines";
    if (FT_Select_Charmap(out->face, FT_ENCODING_UNICODE)) return "a font without a Unicode character map";
    FT_BBox box;
    out->cap_height = load_outline(out->face, 'H', &box) ? (double)box.yMax : (double)out->face->ascender;
    return out->cap_height > 0.0 ? NULL : "a font without height";
}

KinditStatus glyph_face_open(GlyphFace *out, KinditContext *ctx, const char *path) {
    *out = (GlyphFace){0};
    const char *problem = face_load(out, path);
    if (!problem) return KINDIT_OK;
    glyph_face_close(out);
    return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: %s", path, problem);
}

void glyph_face_close(GlyphFace *face) {
    if (face->face) FT_Done_Face(face->face);
    if (face->library) FT_Done_FreeType(face->library);
    *face = (GlyphFace){0};
}

static bool is_style_word(const char *word, size_t length) {
    static const char *const words[] = {"bold",       "italic", "oblique", "regular",  "light",     "extralight",
                                        "ultralight", "thin",   "medium",  "semibold", "demibold",  "demi",
                                        "extrabold",  "black",  "heavy",   "book",     "condensed", "extended",
                                        "narrow",     "wide",   "cond"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i]) == length && strncasecmp(words[i], word, length) == 0) return true;
    return false;
}

void glyph_face_family(const GlyphFace *face, char out[64]) {
    const char *name = face->face->family_name ? face->face->family_name : "";
    size_t n = 0;
    while (*name) {
        size_t length = strcspn(name, " -_");
        // the first word stays even when it names a style: "Black Chancery" is a family
        for (size_t i = 0; (n == 0 || !is_style_word(name, length)) && i < length && n < 63; i++)
            if (isalnum((unsigned char)name[i])) out[n++] = (char)tolower((unsigned char)name[i]);
        name += length + (name[length] != '\0');
    }
    out[n] = '\0';
}

GlyphResult glyph_render(const GlyphFace *face, uint32_t character, int size, uint8_t *pixels) {
    memset(pixels, 0, (size_t)size * (size_t)size);
    if (FT_Get_Char_Index(face->face, character) == 0) return GLYPH_MISSING;
    FT_BBox box;
    if (!load_outline(face->face, character, &box)) return GLYPH_BROKEN;
    FT_Outline *outline = &face->face->glyph->outline;
    if (outline->n_points == 0 || box.xMax <= box.xMin || box.yMax <= box.yMin) return GLYPH_BLANK;

    // Font units to 1/64 pixel: outlines keep all their precision up to here, whatever the size.
    double pixel = size / 32.0, scale = CAP_PIXELS * pixel / face->cap_height;
    FT_Fixed scale_16_16 = (FT_Fixed)lround(scale * 64.0 * 65536.0);
    double left = size / 2.0 - 0.5 * scale * (double)(box.xMin + box.xMax), bottom = size - BASELINE_PIXELS * pixel;
    FT_Outline_Transform(outline, &(FT_Matrix){.xx = scale_16_16, .yy = scale_16_16});
    FT_Outline_Translate(outline, (FT_Pos)lround(left * 64.0), (FT_Pos)lround(bottom * 64.0));
    FT_Bitmap bitmap = {.rows = (unsigned)size,
                        .width = (unsigned)size,
                        .pitch = size,
                        .buffer = pixels,
                        .num_grays = 256,
                        .pixel_mode = FT_PIXEL_MODE_GRAY};
    if (FT_Outline_Get_Bitmap(face->library, outline, &bitmap)) return GLYPH_BROKEN;
    bool inked = false;
    for (size_t i = 0; i < (size_t)size * (size_t)size && !inked; i++) inked = pixels[i] != 0;
    double tolerance = OVERFLOW_PIXELS * pixel;
    bool overflow = left + scale * (double)box.xMin < -tolerance || bottom + scale * (double)box.yMin < -tolerance ||
                    bottom + scale * (double)box.yMax > size + tolerance;
    return overflow ? GLYPH_OVERFLOW : inked ? GLYPH_DRAWN : GLYPH_BLANK;
}
