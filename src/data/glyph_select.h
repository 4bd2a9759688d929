// Which faces make good samples. All judgements look at thumbnails of 16 x 16, whatever the size of the data set: the
// same faces are chosen at every size.
//
// Dropped, in this order:
//   thin       the mean ink of all glyphs is below GLYPH_MIN_INK: hairlines that vanish at 32 pixels
//   symbol     the mean correlation of its glyphs with the mean glyph of their class is below GLYPH_MIN_CORRELATION:
//              dingbats, and faces too ornamental to be read. Repeated with the means of the faces that stay, until
//              none goes. The bound was set by looking at 45 faces around it: most below are cubes, discs, outlines and
//              symbols, but a few wide readable faces go too (League Mono Extended Thin), and a few odd ones stay.
//   duplicate  every second character differs from that of an earlier face by GLYPH_MAX_DIFFERENCE of full scale or
//              less in the mean: the same design under another name or in another format. (At 2 % weights of one
//              family go too: Go Medium Italic for Go Bold Italic.)
#ifndef DATA_GLYPH_SELECT_H
#define DATA_GLYPH_SELECT_H

#include "base/context.h"

enum { GLYPH_THUMBNAIL = 16, GLYPH_THUMBNAIL_BYTES = GLYPH_THUMBNAIL * GLYPH_THUMBNAIL };

#define GLYPH_MIN_INK 0.03
#define GLYPH_MIN_CORRELATION 0.44
#define GLYPH_MAX_DIFFERENCE 0.01

typedef enum GlyphVerdict { GLYPH_KEPT, GLYPH_THIN, GLYPH_SYMBOL, GLYPH_DUPLICATE } GlyphVerdict;

// thumbnails[i]: (n_characters, 16, 16) of face i. verdict[0..n_faces-1] receives the judgement.
KinditStatus glyph_select(KinditContext *ctx, const uint8_t *const *thumbnails, size_t n_faces, size_t n_characters,
                          GlyphVerdict *verdict);

#endif
