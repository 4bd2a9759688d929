#include "metrics/side.h"

#include <string.h>

#include "data/import_tools.h"
#include "model/model_run.h"

enum { DRAWN_DEFAULT = 5000, KEY_DIGITS = 16 };

// ---- the network ---------------------------------------------------------------------------------------------------

KinditStatus looker_open(Looker *out, KinditContext *ctx, const char *network, const char *profile, const char *cache) {
    *out = (Looker){.ctx = ctx, .cache = cache};
    KinditStatus status = engine_create(&out->engine, ctx);
    if (!status) status = vision_open(&out->network, ctx, out->engine, network);
    if (!status) {
        const VisionInfo *info = vision_info(out->network);
        out->profile = info->profile;
        out->widths[FEATURE_POOLED] = info->n_features;
        out->widths[FEATURE_SPATIAL] = info->n_spatial;
        out->widths[FEATURE_LOGITS] = info->n_logits;
    }
    if (!status && profile) status = profile_parse(&out->profile, ctx, profile);
    if (status) looker_close(out);
    return status;
}

void looker_close(Looker *looker) {
    vision_close(&looker->network);
    engine_close(&looker->engine);
}

// ---- shapes --------------------------------------------------------------------------------------------------------

// What the network cannot read is said before anything is drawn: of a model what it draws, of images the first of them.
static KinditStatus check_shape(const Side *side, const Looker *looker, int width, int height, int channels) {
    const VisionInfo *info = vision_info(looker->network);
    const bool size = looker->profile != PROFILE_NATIVE || (width == info->input_size && height == info->input_size);
    const bool colour = channels <= info->channels;
    if (size && colour) return KINDIT_OK;
    return context_fail(looker->ctx, KINDIT_ERROR_ARGUMENT,
                        "%s: %d x %d pixels, %s, but the network %s reads %d x %d, %s: name another (--network), train "
                        "one for such images (`kindit eval train-features`)%s",
                        side->path, width, height, channels == 1 ? "grey" : "in colour", info->name, info->input_size,
                        info->input_size, info->channels == 1 ? "grey" : "in colour",
                        colour ? ", or have them resized (--profile pytorch-fid)" : "");
}

// ---- models --------------------------------------------------------------------------------------------------------

static bool holds(const char *folder, const char *name) {
    char path[1024];
    return !file_path(path, NULL, "%s/%s", folder, name) && file_exists(path);
}

static bool is_model(const char *path) {
    const char *dot = strrchr(path, '.');
    if (!file_is_folder(path)) return dot && strcmp(dot, ".safetensors") == 0;
    return holds(path, "model.safetensors") || holds(path, "learngene.safetensors") || holds(path, "checkpoints");
}

// Of the files that a model is read from; of a run, those of its newest checkpoint.
static KinditStatus hash_model(char out[65], KinditContext *ctx, const char *path) {
    static const char *const extensions[] = {".safetensors", ".json", NULL};
    char folder[1024];
    FileMap map;
    FileList files;
    int64_t step = -1;
    if (!file_is_folder(path)) {
        TRY(file_map(&map, ctx, path));
        file_sha256(map.data, map.size, out);
        file_unmap(&map);
        return KINDIT_OK;
    }
    TRY(model_run_newest(ctx, path, &step));
    TRY(step >= 0 ? model_run_path(folder, ctx, path, step) : file_path(folder, ctx, "%s", path));
    TRY(file_list_collect(&files, ctx, folder, extensions));
    KinditStatus status = file_list_hash(&files, ctx, out);
    file_list_close(&files);
    return status;
}

// The model has the classes asked for alone, in their order.
static KinditStatus choose_classes(Side *side, KinditContext *ctx) {
    side->n_classes = side->model->dit->config.n_classes;
    side->classes = side->model->classes;
    if (side->n_classes == 0 && !side->sampler.no_tailors)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "%s: has no classes, being a learngene without tailors: add --no-tailors", side->path);
    TRY(memory_alloc(ctx, (size_t)side->n_classes + 1, sizeof *side->drawn_classes, &side->drawn_classes));
    for (int c = 0; c < side->n_classes; c++) side->drawn_classes[c] = c;
    return KINDIT_OK;
}

static KinditStatus open_model(Side *side, const Looker *looker, const KinditSampleSettings *settings, int64_t n) {
    KinditContext *ctx = looker->ctx;
    side->sampler = sampler_settings_from(settings);
    side->n = n ? n : DRAWN_DEFAULT;
    if (side->n > INT32_MAX) return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "--n %lld: too many", (long long)side->n);
    TRY(hash_model(side->hash, ctx, side->path));
    TRY(model_open(&side->model, ctx, looker->engine, side->path, settings->classes));
    const DitConfig *config = &side->model->dit->config;
    if (config->channels != 1 && config->channels != 3)
        return context_fail(ctx, KINDIT_ERROR_UNSUPPORTED,
                            "%s: draws latents of %d channels, which no network looks at", side->path,
                            config->channels);
    TRY(check_shape(side, looker, config->image_size, config->image_size, config->channels));
    TRY(choose_classes(side, ctx));
    snprintf(side->what, sizeof side->what, "%lld images drawn, %d classes, %s %d steps, cfg %g, seed %llu%s",
             (long long)side->n, side->n_classes, settings->sampler == KINDIT_DDIM ? "ddim" : "ddpm", settings->steps,
             settings->guidance, (unsigned long long)settings->seed, settings->no_tailors ? ", tailors shut" : "");
    return KINDIT_OK;
}

// ---- images and statistics -----------------------------------------------------------------------------------------

static KinditStatus open_statistics(Side *side, KinditContext *ctx) {
    FileMap map;
    TRY(file_map(&map, ctx, side->path));
    file_sha256(map.data, map.size, side->hash);
    KinditStatus status = statistics_file_parse(&side->statistics, ctx, side->path, map.data, map.size);
    file_unmap(&map);
    side->has_statistics = !status;
    side->n = side->statistics.features.n;
    char images[64] = "an unknown number of images";
    if (side->n) snprintf(images, sizeof images, "%lld images", (long long)side->n);
    snprintf(side->what, sizeof side->what, "statistics of %s, %d features%s", images, side->statistics.features.d,
             side->statistics.spatial.d ? ", and spatial ones" : "");
    return status;
}

static KinditStatus check_width(const Side *side, const Looker *looker, int found, int expected, const char *what) {
    if (found == expected) return KINDIT_OK;
    return context_fail(looker->ctx, KINDIT_ERROR_ARGUMENT,
                        "%s: statistics of %d %s, where %s has %d: they are of another network", side->path, found,
                        what, vision_info(looker->network)->name, expected);
}

static KinditStatus check_first(const Side *side, const Looker *looker) {
    Image image;
    TRY(image_source_read(side->source, looker->ctx, 0, &image));
    KinditStatus status = check_shape(side, looker, image.width, image.height, image.channels);
    image_close(&image);
    return status;
}

static KinditStatus open_images(Side *side, const Looker *looker, SourceSplit split, int64_t n) {
    KinditContext *ctx = looker->ctx;
    TRY(image_source_open(&side->source, ctx, side->path, split));
    if (n) TRY(image_source_choose(side->source, ctx, n));
    TRY(check_first(side, looker));
    side->n = image_source_count(side->source);
    side->classes = image_source_classes(side->source, &side->n_classes);
    snprintf(side->what, sizeof side->what, "%lld images, %d classes", (long long)side->n, side->n_classes);
    return image_source_hash(side->source, ctx, side->hash);
}

// ---- features ------------------------------------------------------------------------------------------------------

static void add_drawing(cJSON *json, const Side *side) {
    const SamplerSettings *s = &side->sampler;
    char numbers[256];
    snprintf(numbers, sizeof numbers, "%d %d %.17g %.17g %d %d %d %d %llu %d %d", s->method, s->steps, s->eta,
             s->guidance, s->guided, s->clip, s->no_tailors, s->keep_label_rows, (unsigned long long)s->seed, s->bf16,
             s->int8);
    cJSON_AddStringToObject(json, "drawing", numbers);
    cJSON_AddNumberToObject(json, "n", (double)side->n); // the classes' turns depend on it
}

// Labels are kept with the features: those of the same pixels may differ.
static KinditStatus add_labels(cJSON *json, const Side *side, KinditContext *ctx) {
    const int64_t n = image_source_count(side->source);
    int *labels;
    char digest[65];
    TRY(memory_alloc(ctx, (size_t)n, sizeof *labels, &labels));
    for (int64_t i = 0; i < n; i++) labels[i] = image_source_label(side->source, i);
    file_sha256(labels, (size_t)n * sizeof *labels, digest);
    cJSON_AddStringToObject(json, "labels", digest);
    memory_free(&labels);
    return KINDIT_OK;
}

// A text that is the same when features and labels would be. Caller frees *out with cJSON_free.
static KinditStatus recipe_text(char **out, const Side *side, const Looker *looker) {
    cJSON *json = cJSON_CreateObject();
    KinditStatus status = KINDIT_OK;
    cJSON_AddStringToObject(json, "network", vision_info(looker->network)->sha256);
    cJSON_AddStringToObject(json, "profile", profile_name(looker->profile));
    cJSON_AddStringToObject(json, side->model ? "model" : "images", side->hash);
    cJSON *classes = cJSON_AddArrayToObject(json, "classes");
    for (int c = 0; c < side->n_classes; c++) cJSON_AddItemToArray(classes, cJSON_CreateString(side->classes[c].id));
    if (side->model)
        add_drawing(json, side);
    else
        status = add_labels(json, side, looker->ctx);
    *out = status ? NULL : cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    return status || *out ? status : context_fail(looker->ctx, KINDIT_ERROR_MEMORY, "out of memory");
}

static KinditStatus open_set(Side *side, const Looker *looker) {
    char folder[1024], key[65];
    char *recipe;
    TRY(recipe_text(&recipe, side, looker));
    file_sha256(recipe, strlen(recipe), key);
    KinditStatus status = KINDIT_OK;
    if (looker->cache) status = file_path(folder, looker->ctx, "%s/%.*s", looker->cache, KEY_DIGITS, key);
    if (!status)
        status = feature_set_open(&side->set, looker->ctx, looker->widths, looker->cache ? folder : NULL, recipe);
    cJSON_free(recipe);
    return status;
}

// ---- sides ----------------------------------------------------------------------------------------------------------

KinditStatus side_open(Side *out, const Looker *looker, const char *path, const KinditSampleSettings *drawing,
                       SourceSplit split, int64_t n) {
    *out = (Side){.path = path};
    TRY(is_model(path) ? open_model(out, looker, drawing, n) : open_images(out, looker, split, n));
    return open_set(out, looker);
}

KinditStatus side_open_reference(Side *out, const Looker *looker, const char *path, SourceSplit split) {
    *out = (Side){.path = path};
    if (!statistics_file_is(path)) {
        TRY(open_images(out, looker, split, 0));
        return open_set(out, looker);
    }
    TRY(open_statistics(out, looker->ctx));
    TRY(check_width(out, looker, out->statistics.features.d, looker->widths[FEATURE_POOLED], "features"));
    return out->statistics.spatial.d && looker->widths[FEATURE_SPATIAL]
               ? check_width(out, looker, out->statistics.spatial.d, looker->widths[FEATURE_SPATIAL],
                             "spatial features")
               : KINDIT_OK;
}

void side_close(Side *side) {
    feature_set_close(&side->set);
    image_source_close(&side->source);
    statistics_file_close(&side->statistics);
    memory_free(&side->drawn_classes);
    model_close(&side->model);
}

ExtractDrawing side_drawing(const Side *side) {
    return (ExtractDrawing){side->model, side->sampler, side->drawn_classes, side->n_classes, side->n};
}

EvaluatePart side_part(const Side *side) {
    return (EvaluatePart){.set = side->set, .n = side->set ? side->n : 0};
}

EvaluateRequest side_request(const Looker *looker, const Side *samples, const Side *reference) {
    EvaluateRequest request = {
        .samples = side_part(samples),
        .reference = side_part(reference),
        .statistics = reference->has_statistics ? &reference->statistics : NULL,
    };
    evaluate_conventions(looker->profile, &request);
    request.metrics = evaluate_possible(&request);
    return request;
}

static KinditStatus extract(Side *side, const Looker *looker, const char *task) {
    Extractor extractor;
    TRY(extractor_open(&extractor, looker->ctx, looker->engine, looker->network, looker->profile, looker->widths));
    const ExtractDrawing drawing = side_drawing(side);
    KinditStatus status = side->model ? extract_drawing(side->set, &extractor, &drawing, task)
                                      : extract_source(side->set, &extractor, side->source, task);
    extractor_close(&extractor);
    return status;
}

KinditStatus side_extract(Side *side, const Looker *looker, const char *task) {
    if (side->has_statistics) return KINDIT_OK;
    KinditStatus status = extract(side, looker, task);
    if (status == KINDIT_CANCELLED && looker->cache)
        context_log(looker->ctx, KINDIT_LOG_INFO, "%lld images are kept in %s: the same command goes on from there",
                    (long long)feature_set_count(side->set), looker->cache);
    return status;
}
