// Importers: each reads a source and writes one data-set folder.
#ifndef DATA_IMPORT_H
#define DATA_IMPORT_H

#include "data/dataset.h"

typedef struct ImportSettings {
    const char *output;  // data-set folder to make
    const char *classes; // --classes, or NULL
    const char *merge;   // --merge FILE, or NULL
    int size;            // output side
    int channels;        // 1 or 3
    bool strict;         // a broken file is an error; otherwise it is counted, named and skipped
    bool drop_empty;     // classes without a training sample are dropped; otherwise they are an error
    double heldout; // share of samples held out (by family for glyphs), 0 for none; used where the source has no split
    uint64_t seed;
} ImportSettings;
ImportSettings import_settings_default(void); // size 32, channels 1, heldout 0.1, seed 0

// Glyphs of installed fonts (see glyph_select.h for what is kept and why). fonts: folder searched recursively, NULL for
// /usr/share/fonts. charset: characters to render and ranges of them ("A-Z0-9", see charset.h), NULL for "A-Za-z0-9".
// Split by font family.
KinditStatus import_glyphs(KinditContext *ctx, const ImportSettings *settings, const char *fonts, const char *charset);
// IDX pairs: images and labels file of the training part, and of a test part (or NULL) that becomes the held-out split.
// names: comma-separated class names, NULL for the label numbers. A side above the source's pads with black, one below
// it resizes (resize.h).
KinditStatus import_idx(KinditContext *ctx, const ImportSettings *settings, const char *images, const char *labels,
                        const char *test_images, const char *test_labels, const char *names);
// An ImageFolder tree: one folder a class (sorted as strings), PNG, JPEG and WebP inside at any depth. Centre crop
// (resize.h); alpha is composed over black. The held-out share is drawn class by class.
KinditStatus import_folder(KinditContext *ctx, const ImportSettings *settings, const char *folder);

#endif
