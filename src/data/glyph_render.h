// Glyphs of one font face as small grey pictures, white ink (255) on black, by FreeType: no hinting, no embedded
// bitmaps, the Unicode character map.
//
// All glyphs of a face share one scale and one baseline, so that case survives (s and S, o and O): capitals are 18/32
// of the side high, the baseline lies at 23/32, which leaves 5/32 above them and 9/32 for descenders. Each glyph is
// centred by the width of its ink.
#ifndef DATA_GLYPH_RENDER_H
#define DATA_GLYPH_RENDER_H

#include <ft2build.h>
#include FT_FREETYPE_H

#include "base/context.h"

typedef struct GlyphFace {
    FT_Library library;
    FT_Face face;
    double cap_height; // font units, over the baseline
} GlyphFace;

typedef enum GlyphResult {
    GLYPH_DRAWN,
    GLYPH_MISSING, // the face has no such character
    GLYPH_BROKEN,  // it has one, but its outline cannot be read
    GLYPH_BLANK,   // no ink
    GLYPH_OVERFLOW // its outline leaves the picture by more than 1/64 of the side: what is inside was drawn
} GlyphResult;

// Fails (KINDIT_ERROR_FORMAT) when FreeType cannot read the file, when it has no outlines, no Unicode map or no height.
// The height of capitals is that of 'H', or the ascender where there is none.
KinditStatus glyph_face_open(GlyphFace *out, KinditContext *ctx, const char *path);
void glyph_face_close(GlyphFace *face);

// The family name of the face without words of style (bold, italic, condensed, ...), lower-case letters and digits
// only: what siblings have in common.
void glyph_face_family(const GlyphFace *face, char out[64]);

// pixels (size, size), size at most 1024.
GlyphResult glyph_render(const GlyphFace *face, uint32_t character, int size, uint8_t *pixels);

#endif
