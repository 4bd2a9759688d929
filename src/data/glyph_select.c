#include "data/glyph_select.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"

static double mean_ink(const uint8_t *thumbnails, size_t n_characters) {
    uint64_t sum = 0;
    size_t n = n_characters * GLYPH_THUMBNAIL_BYTES;
    for (size_t i = 0; i < n; i++) sum += thumbnails[i];
    return (double)sum / (255.0 * (double)n);
}

// Pearson's correlation of a glyph with a mean picture; 0 where either is flat.
static double correlation(const uint8_t *glyph, const double *mean) {
    double sum_g = 0, sum_m = 0, sum_gg = 0, sum_mm = 0, sum_gm = 0, n = GLYPH_THUMBNAIL_BYTES;
    for (size_t i = 0; i < GLYPH_THUMBNAIL_BYTES; i++) {
        double g = glyph[i], m = mean[i];
        sum_g += g, sum_m += m, sum_gg += g * g, sum_mm += m * m, sum_gm += g * m;
    }
    double variance = (sum_gg - sum_g * sum_g / n) * (sum_mm - sum_m * sum_m / n);
    return variance > 0 ? (sum_gm - sum_g * sum_m / n) / sqrt(variance) : 0.0;
}

// means (n_characters, 16, 16) over the faces still kept.
static void compute_means(const uint8_t *const *thumbnails, size_t n_faces, size_t n, const GlyphVerdict *verdict,
                          double *means) {
    size_t n_kept = 0;
    for (size_t i = 0; i < n; i++) means[i] = 0.0;
    for (size_t face = 0; face < n_faces; face++) {
        if (verdict[face] != GLYPH_KEPT) continue;
        n_kept++;
        for (size_t i = 0; i < n; i++) means[i] += thumbnails[face][i];
    }
    for (size_t i = 0; i < n && n_kept; i++) means[i] /= (double)n_kept;
}

// Drops every face that now correlates too little; returns how many went.
static size_t drop_symbols(const uint8_t *const *thumbnails, size_t n_faces, size_t n_characters, const double *means,
                           GlyphVerdict *verdict) {
    size_t n_dropped = 0;
    for (size_t face = 0; face < n_faces; face++) {
        if (verdict[face] != GLYPH_KEPT) continue;
        double sum = 0.0;
        for (size_t c = 0; c < n_characters; c++)
            sum += correlation(thumbnails[face] + c * GLYPH_THUMBNAIL_BYTES, means + c * GLYPH_THUMBNAIL_BYTES);
        if (sum / (double)n_characters >= GLYPH_MIN_CORRELATION) continue;
        verdict[face] = GLYPH_SYMBOL;
        n_dropped++;
    }
    return n_dropped;
}

static bool are_duplicates(const uint8_t *a, const uint8_t *b, size_t n_characters) {
    size_t n = (n_characters + 1) / 2 * GLYPH_THUMBNAIL_BYTES;
    uint64_t limit = (uint64_t)(GLYPH_MAX_DIFFERENCE * 255.0 * (double)n), sum = 0;
    for (size_t c = 0; c < n_characters && sum <= limit; c += 2)
        for (size_t i = c * GLYPH_THUMBNAIL_BYTES; i < (c + 1) * GLYPH_THUMBNAIL_BYTES; i++)
            sum += (uint64_t)abs(a[i] - b[i]);
    return sum <= limit;
}

static void drop_duplicates(const uint8_t *const *thumbnails, size_t n_faces, size_t n_characters,
                            GlyphVerdict *verdict) {
    for (size_t face = 0; face < n_faces; face++)
        for (size_t other = 0; other < face && verdict[face] == GLYPH_KEPT; other++)
            if (verdict[other] == GLYPH_KEPT && are_duplicates(thumbnails[face], thumbnails[other], n_characters))
                verdict[face] = GLYPH_DUPLICATE;
}

KinditStatus glyph_select(KinditContext *ctx, const uint8_t *const *thumbnails, size_t n_faces, size_t n_characters,
                          GlyphVerdict *verdict) {
    size_t n = n_characters * GLYPH_THUMBNAIL_BYTES;
    double *means;
    TRY(memory_alloc(ctx, n, sizeof *means, &means));
    for (size_t face = 0; face < n_faces; face++)
        verdict[face] = mean_ink(thumbnails[face], n_characters) < GLYPH_MIN_INK ? GLYPH_THIN : GLYPH_KEPT;
    do compute_means(thumbnails, n_faces, n, verdict, means);
    while (drop_symbols(thumbnails, n_faces, n_characters, means, verdict) > 0);
    drop_duplicates(thumbnails, n_faces, n_characters, verdict);
    memory_free(&means);
    return KINDIT_OK;
}
