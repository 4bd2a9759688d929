#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/charset.h"
#include "data/glyph_render.h"
#include "data/glyph_select.h"
#include "data/import_tools.h"

// Faces that cover the character set and fit; then those that glyph_select keeps.
typedef struct Face {
    const char *path; // borrowed from the file list
    char family[64];
    uint8_t *thumbnails; // (n_characters, 16, 16)
    bool heldout;
} Face;

typedef struct GlyphCounts {
    int64_t files, unreadable, incomplete, blank, overflow, thin, symbol, duplicate, faces, families, heldout_families;
} GlyphCounts;

typedef struct GlyphImport {
    KinditContext *ctx;
    const ImportSettings *settings;
    FileList files;
    uint32_t *characters;
    size_t n_characters;
    int *class_of; // [n_characters], -1: not wanted
    Face *faces;   // [n_faces] of files.n
    size_t n_faces;
    GlyphCounts counts;
    DatasetWriter *writer;
} GlyphImport;

// Draws all thumbnails; the first character that fails decides.
static GlyphResult draw_thumbnails(const GlyphImport *import, const GlyphFace *source, uint8_t *thumbnails) {
    GlyphResult result = GLYPH_DRAWN;
    for (size_t i = 0; i < import->n_characters && result == GLYPH_DRAWN; i++)
        result = glyph_render(source, import->characters[i], GLYPH_THUMBNAIL, thumbnails + i * GLYPH_THUMBNAIL_BYTES);
    return result;
}

static KinditStatus read_face(GlyphImport *import, const char *path) {
    KinditContext *ctx = import->ctx;
    GlyphCounts *counts = &import->counts;
    GlyphFace source;
    KinditStatus status = glyph_face_open(&source, ctx, path);
    if (status) return import_skip(ctx, status, import->settings->strict, &counts->unreadable);

    Face face = {.path = path};
    glyph_face_family(&source, face.family);
    status = memory_alloc(ctx, import->n_characters, GLYPH_THUMBNAIL_BYTES, &face.thumbnails);
    GlyphResult result = status ? GLYPH_BROKEN : draw_thumbnails(import, &source, face.thumbnails);
    glyph_face_close(&source);
    if (!status && result == GLYPH_DRAWN) {
        import->faces[import->n_faces++] = face;
        return KINDIT_OK;
    }
    memory_free(&face.thumbnails);
    if (status) return status;
    if (result == GLYPH_BROKEN) {
        status = context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: a glyph's outline cannot be read", path);
        return import_skip(ctx, status, import->settings->strict, &counts->unreadable);
    }
    counts->incomplete += result == GLYPH_MISSING;
    counts->blank += result == GLYPH_BLANK;
    counts->overflow += result == GLYPH_OVERFLOW;
    return KINDIT_OK;
}

static KinditStatus read_faces(GlyphImport *import) {
    TRY(memory_alloc(import->ctx, import->files.n, sizeof *import->faces, &import->faces));
    for (size_t i = 0; i < import->files.n; i++) {
        if (i % 32 == 0) TRY(import_report(import->ctx, i, import->files.n, "reading fonts"));
        TRY(read_face(import, import->files.paths[i]));
    }
    return KINDIT_OK;
}

static KinditStatus select_faces(GlyphImport *import) {
    const uint8_t **thumbnails = NULL;
    GlyphVerdict *verdict = NULL;
    GlyphCounts *counts = &import->counts;
    KinditStatus status = memory_alloc(import->ctx, import->n_faces, sizeof *thumbnails, &thumbnails);
    if (!status) status = memory_alloc(import->ctx, import->n_faces, sizeof *verdict, &verdict);
    for (size_t i = 0; i < import->n_faces && !status; i++) thumbnails[i] = import->faces[i].thumbnails;
    if (!status) status = glyph_select(import->ctx, thumbnails, import->n_faces, import->n_characters, verdict);
    size_t n_kept = 0;
    for (size_t i = 0; i < import->n_faces && !status; i++) {
        counts->thin += verdict[i] == GLYPH_THIN;
        counts->symbol += verdict[i] == GLYPH_SYMBOL;
        counts->duplicate += verdict[i] == GLYPH_DUPLICATE;
        if (verdict[i] == GLYPH_KEPT)
            import->faces[n_kept++] = import->faces[i];
        else
            memory_free(&import->faces[i].thumbnails);
    }
    if (!status) import->n_faces = n_kept;
    memory_free(&thumbnails);
    memory_free(&verdict);
    return status;
}

static int compare_families(const void *a, const void *b) {
    const Face *face = a, *other = b;
    int order = strcmp(face->family, other->family);
    return order ? order : strcmp(face->path, other->path);
}

// Bold and italic siblings of a training face would make a held-out face easy: so whole families are held out.
static KinditStatus split_families(GlyphImport *import) {
    qsort(import->faces, import->n_faces, sizeof *import->faces, compare_families);
    size_t n_families = 0;
    for (size_t i = 0; i < import->n_faces; i++)
        n_families += i == 0 || strcmp(import->faces[i].family, import->faces[i - 1].family) != 0;
    bool *heldout;
    TRY(memory_alloc(import->ctx, n_families, sizeof *heldout, &heldout));
    KinditStatus status =
        import_choose_heldout(import->ctx, import->settings->seed, 0, import->settings->heldout, n_families, heldout);
    size_t family = 0;
    for (size_t i = 0; i < import->n_faces && !status; i++) {
        family += i > 0 && strcmp(import->faces[i].family, import->faces[i - 1].family) != 0;
        import->faces[i].heldout = heldout[family];
    }
    for (size_t i = 0; i < n_families; i++) import->counts.heldout_families += heldout[i];
    import->counts.families = (int64_t)n_families;
    import->counts.faces = (int64_t)import->n_faces;
    memory_free(&heldout);
    return status;
}

static KinditStatus add_glyph(GlyphImport *import, const GlyphFace *source, size_t character, bool heldout) {
    Image image;
    TRY(image_alloc(&image, import->ctx, import->settings->size, import->settings->size, 1));
    glyph_render(source, import->characters[character], import->settings->size, image.pixels);
    KinditStatus status = image_convert(&image, import->ctx, import->settings->channels, 0);
    if (!status) status = dataset_writer_add(import->writer, import->class_of[character], heldout, image.pixels);
    image_close(&image);
    return status;
}

static KinditStatus add_face(GlyphImport *import, const Face *face) {
    GlyphFace source;
    TRY(glyph_face_open(&source, import->ctx, face->path));
    KinditStatus status = KINDIT_OK;
    for (size_t i = 0; i < import->n_characters && !status; i++)
        if (import->class_of[i] >= 0) status = add_glyph(import, &source, i, face->heldout);
    glyph_face_close(&source);
    return status;
}

static KinditStatus add_faces(GlyphImport *import) {
    for (size_t i = 0; i < import->n_faces; i++) {
        if (i % 32 == 0) TRY(import_report(import->ctx, i, import->n_faces, "drawing glyphs"));
        TRY(add_face(import, &import->faces[i]));
    }
    return KINDIT_OK;
}

static KinditStatus name_classes(GlyphImport *import) {
    ModelClass *classes;
    size_t n = import->n_characters;
    TRY(memory_alloc(import->ctx, n, sizeof *import->class_of, &import->class_of));
    TRY(memory_alloc(import->ctx, n, sizeof *classes, &classes));
    for (size_t i = 0; i < n; i++) charset_class(import->characters[i], &classes[i]);
    KinditStatus status =
        import_map_classes(import->ctx, import->writer, import->settings, classes, n, false, import->class_of);
    memory_free(&classes);
    return status;
}

static cJSON *describe_counts(const GlyphCounts *c) {
    const struct {
        const char *name;
        int64_t value;
    } rows[] = {{"files", c->files},
                {"unreadable", c->unreadable},
                {"incomplete", c->incomplete},
                {"blank", c->blank},
                {"overflow", c->overflow},
                {"thin", c->thin},
                {"symbol", c->symbol},
                {"duplicate", c->duplicate},
                {"faces", c->faces},
                {"families", c->families},
                {"heldout_families", c->heldout_families}};
    cJSON *json = cJSON_CreateObject();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cJSON_AddNumberToObject(json, rows[i].name, (double)rows[i].value);
    return json;
}

static KinditStatus finish(GlyphImport *import) {
    const GlyphCounts *c = &import->counts;
    context_log(
        import->ctx, KINDIT_LOG_INFO,
        "%lld font files; dropped: %lld unreadable, %lld incomplete, %lld with blank glyphs, %lld overflowing, %lld "
        "thin, %lld symbol fonts, %lld duplicates; kept %lld faces of %lld families, %lld of them held out",
        (long long)c->files, (long long)c->unreadable, (long long)c->incomplete, (long long)c->blank,
        (long long)c->overflow, (long long)c->thin, (long long)c->symbol, (long long)c->duplicate, (long long)c->faces,
        (long long)c->families, (long long)c->heldout_families);
    cJSON *details = cJSON_CreateObject(), *counts = describe_counts(c);
    cJSON_AddStringToObject(details, "importer", "glyphs");
    cJSON_AddStringToObject(details, "split", "by font family");
    cJSON_AddNumberToObject(details, "heldout", import->settings->heldout);
    cJSON_AddNumberToObject(details, "seed", (double)import->settings->seed);
    cJSON_AddNumberToObject(details, "min_ink", GLYPH_MIN_INK);
    cJSON_AddNumberToObject(details, "min_correlation", GLYPH_MIN_CORRELATION);
    cJSON_AddNumberToObject(details, "max_difference", GLYPH_MAX_DIFFERENCE);
    KinditStatus status = dataset_writer_finish(&import->writer, details, counts, import->settings->drop_empty);
    cJSON_Delete(details);
    cJSON_Delete(counts);
    return status;
}

static KinditStatus run(GlyphImport *import, const char *fonts, const char *charset) {
    static const char *const extensions[] = {".ttf", ".otf", ".pfb", NULL};
    const ImportSettings *settings = import->settings;
    TRY(import_settings_check(settings, import->ctx));
    if (settings->size > 1024)
        return context_fail(import->ctx, KINDIT_ERROR_ARGUMENT, "size: glyphs have up to 1024 pixels, found %d",
                            settings->size);
    TRY(charset_parse(import->ctx, charset, &import->characters, &import->n_characters));
    TRY(file_list_collect(&import->files, import->ctx, fonts, extensions));
    import->counts.files = (int64_t)import->files.n;
    TRY(dataset_writer_create(&import->writer, import->ctx, settings->output, "glyphs", settings->size,
                              settings->channels));
    TRY(name_classes(import));
    TRY(read_faces(import));
    TRY(select_faces(import));
    if (import->n_faces == 0)
        return context_fail(import->ctx, KINDIT_ERROR_FORMAT,
                            "%s: of %zu font files none has all characters of \"%s\" and "
                            "can be used",
                            fonts, import->files.n, charset);
    TRY(split_families(import));
    TRY(add_faces(import));
    return finish(import);
}

KinditStatus import_glyphs(KinditContext *ctx, const ImportSettings *settings, const char *fonts, const char *charset) {
    GlyphImport import = {.ctx = ctx, .settings = settings};
    KinditStatus status = run(&import, fonts ? fonts : "/usr/share/fonts", charset ? charset : "A-Za-z0-9");
    dataset_writer_abandon(&import.writer);
    for (size_t i = 0; i < import.n_faces; i++) memory_free(&import.faces[i].thumbnails);
    memory_free(&import.faces);
    memory_free(&import.characters);
    memory_free(&import.class_of);
    file_list_close(&import.files);
    return status;
}
