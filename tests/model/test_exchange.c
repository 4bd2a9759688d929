// DiTs of other programs: what those programs compute is what we compute with their files (golden/exchange/make.py),
// and what we write comes back. check_export.py there holds our files to the other programs themselves.
#include <math.h>

#include "base/json.h"
#include "model/exchange.h"
#include "model/merge.h"
#include "model/models.h"

static Engine *open_engine(KinditContext *ctx) {
    Engine *engine;
    assert_ok(ctx, engine_create(&engine, ctx));
    return engine;
}

static float *upload(KinditContext *ctx, Engine *engine, const Tensor *tensor, size_t n) {
    float *host = calloc(n, sizeof *host), *buffer;
    if (tensor) assert_ok(ctx, tensor_read_float(tensor, ctx, 0, n, host));
    assert_ok(ctx, engine_alloc(engine, n, &buffer));
    engine_upload(engine, buffer, host, n);
    free(host);
    return buffer;
}

// out (n, 2C, S, S) = the model's output for n samples; each may open the model's first tailor. Caller frees.
static float *run(const Model *model, int n, const Tensor *x, const int *times, const int *labels, bool tailor) {
    const DitConfig *config = &model->dit->config;
    size_t plane = (size_t)(config->image_size * config->image_size);
    size_t n_in = (size_t)n * (size_t)config->channels * plane;
    size_t n_out = (size_t)n * (size_t)dit_config_out_channels(config) * plane;
    float *image = upload(model->ctx, model->engine, x, n_in), *t = upload(model->ctx, model->engine, NULL, (size_t)n);
    float *out = upload(model->ctx, model->engine, NULL, n_out), *host = calloc(n_out, sizeof *host);
    float reals[8];
    int slots[8];
    for (int i = 0; i < n; i++) reals[i] = (float)times[i], slots[i] = tailor ? 0 : -1;
    engine_upload(model->engine, t, reals, (size_t)n);
    const float *tailors[1] = {tailor ? model->params.tailor[0] : NULL};
    Gate gate = {.n_samples = n, .n_slots = tailor, .slot = slots, .tailor = tailors};
    DitBatch batch = {.n = n, .x = image, .t = t, .labels = labels, .gate = &gate};
    DitWorkspace *workspace;
    assert_ok(model->ctx, dit_workspace_create(&workspace, model->dit, model->engine, n, (DitMode){0}));
    dit_forward(model->dit, workspace, model->params.shared, &batch, out);
    engine_download(model->engine, host, out, n_out);
    dit_workspace_close(&workspace);
    engine_free(model->engine, &image);
    engine_free(model->engine, &t);
    engine_free(model->engine, &out);
    return host;
}

static double relative_error(size_t n, const float *found, const float *expected) {
    double square = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        double difference = (double)found[i] - (double)expected[i];
        square += difference * difference;
        norm += (double)expected[i] * (double)expected[i];
    }
    return sqrt(square / norm);
}

enum { SAMPLES = 4, OUTPUTS = SAMPLES * 8 * 8 * 8 }; // of the golden files

// The model gives what golden/exchange/<folder>/io.safetensors says, within single precision's rounding: 2e-6 as in
// model_test_golden. The settings that differ between the programs show at 1e-3 and above.
static double golden_error(Scratch *scratch, const Model *model, const char *folder) {
    char name[64];
    Safetensors io;
    int times[SAMPLES], labels[SAMPLES];
    float expected[OUTPUTS];
    snprintf(name, sizeof name, "exchange/%s/io.safetensors", folder);
    assert_ok(scratch->ctx, safetensors_open(&io, scratch->ctx, scratch_golden(scratch, name)));
    for (int i = 0; i < SAMPLES; i++) {
        int64_t t, y;
        memcpy(&t, (const char *)safetensors_find(&io, "t")->data + 8 * i, sizeof t);
        memcpy(&y, (const char *)safetensors_find(&io, "y")->data + 8 * i, sizeof y);
        times[i] = (int)t, labels[i] = (int)y;
    }
    assert_ok(scratch->ctx, tensor_read_float(safetensors_find(&io, "out"), scratch->ctx, 0, OUTPUTS, expected));
    float *found = run(model, SAMPLES, safetensors_find(&io, "x"), times, labels, false);
    double error = relative_error(OUTPUTS, found, expected);
    free(found);
    safetensors_close(&io);
    return error;
}

static Model *import(Scratch *scratch, Engine *engine, const char *path, int heads) {
    Model *model;
    assert_ok(scratch->ctx, exchange_import(&model, scratch->ctx, engine, path, heads));
    return model;
}

static void check_golden(Scratch *scratch, const char *source, const char *folder, int heads) {
    Engine *engine = open_engine(scratch->ctx);
    Model *model = import(scratch, engine, scratch_golden(scratch, source), heads), *read;
    double error = golden_error(scratch, model, folder);
    if (!(error <= 2e-6)) fail_msg("%s: relative error %.3g", source, error);
    // Through our own file too: the config carries what makes the numbers so.
    const char *path = scratch_path(scratch, "imported");
    assert_ok(scratch->ctx, model_write(model, path, STORAGE_F32, false));
    assert_ok(scratch->ctx, model_open(&read, scratch->ctx, engine, path, NULL));
    assert_true(golden_error(scratch, read, folder) == error);
    model_close(&read);
    model_close(&model);
    engine_close(&engine);
}

static void test_original_file(void **state) {
    check_golden(*state, "exchange/dit/model.safetensors", "dit", 2);
}
static void test_original_checkpoint(void **state) {
    check_golden(*state, "exchange/dit/ema.pt", "dit", 2);
}
static void test_diffusers_pipeline(void **state) {
    check_golden(*state, "exchange/diffusers", "diffusers", 0);
}
static void test_diffusers_transformer(void **state) {
    check_golden(*state, "exchange/diffusers/transformer", "diffusers", 0);
}
static void test_diffusers_bin(void **state) {
    check_golden(*state, "exchange/diffusers_bin", "diffusers", 0);
}

// Each of the two settings matters: without it the numbers are others.
static void test_settings_matter(void **state) {
    Scratch *scratch = *state;
    Engine *engine = open_engine(scratch->ctx);
    Model *model = import(scratch, engine, scratch_golden(scratch, "exchange/diffusers"), 0);
    assert_int_equal(model->dit->config.time_shift, 1);
    assert_true(model->dit->config.mlp_norm_eps == 0.01);
    model->dit->config.time_shift = 0;
    assert_true(golden_error(scratch, model, "diffusers") > 1e-3);
    model->dit->config.time_shift = 1;
    model->dit->config.mlp_norm_eps = DIT_NORM_EPS;
    assert_true(golden_error(scratch, model, "diffusers") > 1e-3);
    model_close(&model);
    engine_close(&engine);
}

static void test_class_names(void **state) {
    Scratch *scratch = *state;
    Engine *engine = open_engine(scratch->ctx);
    Model *model = import(scratch, engine, scratch_golden(scratch, "exchange/diffusers"), 0);
    assert_int_equal(model->dit->config.n_classes, 3);
    assert_string_equal(model->classes[0].name, "tench");
    assert_string_equal(model->classes[2].name, "great white shark"); // no file name: ids are numbers
    assert_string_equal(model->classes[2].id, "2");
    const cJSON *training = cJSON_GetObjectItemCaseSensitive(model->config, "training");
    assert_true(cJSON_GetObjectItemCaseSensitive(training, "beta_last")->valuedouble == 0.02);
    model_close(&model);
    engine_close(&engine);
}

// ---- out and in again ----------------------------------------------------------------------------------------------

static const char *export_to(Scratch *scratch, const Model *model, ExchangeFormat format, ExchangeReport *report) {
    const char *path = scratch_path(scratch, format == EXCHANGE_DIT ? "out.safetensors" : "out");
    assert_ok(scratch->ctx, exchange_export(model, format, path, report));
    return path;
}

static void assert_same_weights(const Model *found, const Model *expected, Engine *engine) {
    assert_int_equal(found->dit->config.n_classes, expected->dit->config.n_classes);
    assert_int_equal(found->dit->config.heads, expected->dit->config.heads);
    for (int i = 0; i < expected->dit->layout.n_specs; i++) {
        const ParamSpec *spec = &expected->dit->layout.specs[i];
        models_assert_rows(engine, found->params.shared + spec->shared_offset,
                           expected->params.shared + spec->shared_offset, spec, (size_t)spec->shape[0], STORAGE_F32);
    }
}

// Where nothing has to be fitted the weights come back bit for bit, and with them the class ids.
static void check_round_trip(Scratch *scratch, ExchangeFormat format) {
    Engine *engine = open_engine(scratch->ctx);
    DitConfig config = models_config(false);
    config.time_shift = format == EXCHANGE_DIFFUSERS;
    config.mlp_norm_eps = format == EXCHANGE_DIFFUSERS ? 1e-4 : DIT_NORM_EPS;
    Model *model = models_create(scratch->ctx, engine, &config);
    ExchangeReport report;
    const char *path = export_to(scratch, model, format, &report);
    assert_true(report.time_error == 0 && !report.norm_eps_lost);
    Model *read = import(scratch, engine, path, 0);
    assert_same_weights(read, model, engine);
    assert_true(read->dit->config.time_shift == config.time_shift);
    assert_true(read->dit->config.mlp_norm_eps == config.mlp_norm_eps);
    assert_string_equal(read->classes[3].name, "Letter D");
    if (format == EXCHANGE_DIT) assert_string_equal(read->classes[3].id, "d");
    assert_fails(scratch->ctx, exchange_export(model, format, path, &report), KINDIT_ERROR_ARGUMENT, "exists");
    model_close(&read);
    model_close(&model);
    engine_close(&engine);
}

static void test_round_trips(void **state) {
    check_round_trip(*state, EXCHANGE_DIT);
    check_round_trip(*state, EXCHANGE_DIFFUSERS);
}

// A class, or none, of a factored model: as a dense model it gives the same output, and so do its exports.
static void check_merge(Scratch *scratch, bool fused, int class_index) {
    enum { N = 2, VALUES = N * 3 * 4 * 4 };
    Engine *engine = open_engine(scratch->ctx);
    DitConfig config = models_config(true);
    config.fused_qkv = config.factor_adaln = fused;
    config.n_classes = 1;
    Model *model = models_create(scratch->ctx, engine, &config), *merged;
    float pixels[VALUES];
    int times[N] = {3, 700}, labels[N] = {0, 0};
    rng_fill_normal((RngKey){.seed = 8, .purpose = RNG_TEST}, pixels, VALUES);
    Tensor x = {.name = "x", .dtype = DTYPE_F32, .n_elements = VALUES, .n_bytes = sizeof pixels, .data = pixels};
    assert_ok(scratch->ctx, model_merge(&merged, model, class_index));
    assert_int_equal(merged->dit->config.n_classes, class_index + 1);
    float *expected = run(model, N, &x, times, labels, class_index >= 0);
    float *found = run(merged, N, &x, times, labels, false); // label 0: the class, or of none the null label
    double error = relative_error(2 * VALUES, found, expected);
    if (!(error < 1e-5)) fail_msg("merged: relative error %.3g", error); // weights of size 1: sums of hundreds
    ExchangeReport report;
    Model *read = import(scratch, engine, export_to(scratch, merged, EXCHANGE_DIT, &report), 0);
    assert_same_weights(read, merged, engine);
    model_close(&read);
    free(expected);
    free(found);
    model_close(&merged);
    model_close(&model);
    engine_close(&engine);
}

static void test_merge(void **state) {
    check_merge(*state, false, 0);
    scratch_teardown(state), scratch_setup(state);
    check_merge(*state, true, 0);
    scratch_teardown(state), scratch_setup(state);
    check_merge(*state, false, -1);
}

// The pipeline looks for the null label in row 1000; rows without a class have it too.
static void test_label_padding(void **state) {
    Scratch *scratch = *state;
    Engine *engine = open_engine(scratch->ctx);
    DitConfig config = models_config(false);
    Model *model = models_create(scratch->ctx, engine, &config);
    ExchangeReport report;
    Safetensors file;
    const Tensor *table;
    float rows[12], expected[12];
    export_to(scratch, model, EXCHANGE_DIFFUSERS, &report);
    assert_ok(scratch->ctx,
              safetensors_open(&file, scratch->ctx,
                               scratch_path(scratch, "out/transformer/diffusion_pytorch_model.safetensors")));
    assert_ok(scratch->ctx, safetensors_require(&file, scratch->ctx,
                                                "transformer_blocks.1.norm1.emb.class_embedder.embedding_table.weight",
                                                2, (int64_t[]){1001, 12}, &table));
    const int from[] = {0, 3, 4, 500, 1000}, of[] = {0, 3, 4, 4, 4};
    const float *labels = model->params.shared + model->dit->layout.specs[model->dit->label].shared_offset;
    for (int i = 0; i < 5; i++) {
        engine_download(engine, expected, labels + 12 * of[i], 12);
        assert_ok(scratch->ctx, tensor_read_float(table, scratch->ctx, 12 * (size_t)from[i], 12, rows));
        assert_memory_equal(rows, expected, sizeof rows);
    }
    safetensors_close(&file);
    model_close(&model);
    engine_close(&engine);
}

// ---- time ----------------------------------------------------------------------------------------------------------

// The time MLP's output at t in double, with the frequencies of `time_shift`.
static void embed(const Dit *dit, const float *shared, int time_shift, int t, double *out) {
    const ParamSpec *specs = dit->layout.specs;
    const float *W1 = shared + specs[dit->t_in.param[DENSE_WEIGHT]].shared_offset;
    const float *b1 = shared + specs[dit->t_in.param[DENSE_BIAS]].shared_offset;
    const float *W2 = shared + specs[dit->t_out.param[DENSE_WEIGHT]].shared_offset;
    const float *b2 = shared + specs[dit->t_out.param[DENSE_BIAS]].shared_offset;
    int D = dit->config.width;
    for (int j = 0; j < D; j++) out[j] = b2[j];
    for (int k = 0; k < D; k++) {
        double hidden = b1[k];
        for (int i = 0; i < 128; i++) {
            double angle = t * pow(10000, -i / (128.0 - time_shift));
            hidden += W1[256 * k + i] * cos(angle) + W1[256 * k + 128 + i] * sin(angle);
        }
        hidden /= 1 + exp(-hidden);
        for (int j = 0; j < D; j++) out[j] += W2[D * j + k] * hidden;
    }
}

// The largest relative error of an embedding with these weights and frequencies, at every seventh timestep.
static double embedding_error(const Dit *dit, const float *shared, int time_shift, const float *original) {
    double found[64], expected[64], largest = 0;
    for (int t = 0; t < 1000; t += 7) {
        double square = 0, norm = 0;
        embed(dit, shared, time_shift, t, found);
        embed(dit, original, dit->config.time_shift, t, expected);
        for (int j = 0; j < 64; j++) {
            square += (found[j] - expected[j]) * (found[j] - expected[j]);
            norm += expected[j] * expected[j];
        }
        largest = fmax(largest, sqrt(square / norm));
    }
    return largest;
}

// Initial weights are the worst there is: nothing in them is smooth. The fit halves the error of leaving them alone, is
// honest about what is left, and is nothing for the model's own frequencies.
static void test_time_fit(void **state) {
    Scratch *scratch = *state;
    Engine *engine = open_engine(scratch->ctx);
    DitConfig config = models_config(false);
    config.width = 64;
    Model *model;
    double error;
    assert_ok(scratch->ctx, model_create(&model, scratch->ctx, engine, &config, test_classes, 1));
    size_t n = model->dit->layout.n_shared;
    float *original = calloc(n, sizeof *original), *fitted = calloc(n, sizeof *fitted);
    engine_download(engine, original, model->params.shared, n);
    memcpy(fitted, original, n * sizeof *fitted);
    assert_ok(scratch->ctx, exchange_refit_time(scratch->ctx, model->dit, 0, fitted, &error));
    assert_true(error < 1e-6);
    memcpy(fitted, original, n * sizeof *fitted);
    assert_ok(scratch->ctx, exchange_refit_time(scratch->ctx, model->dit, 1, fitted, &error));
    double untouched = embedding_error(model->dit, original, 1, original);
    double after = embedding_error(model->dit, fitted, 1, original);
    print_message("largest error of an embedding: %.3f, after the fit %.3f\n", untouched, after);
    assert_true(after < untouched / 2);
    assert_true(after <= error * (1 + 1e-6) && error < 2 * after); // every seventh against all
    free(original);
    free(fitted);
    model_close(&model);
    engine_close(&engine);
}

// ---- refusals ------------------------------------------------------------------------------------------------------

static void check_config_refused(Scratch *scratch, const char *key, const char *value, const char *message) {
    KinditContext *ctx = scratch->ctx;
    Engine *engine = open_engine(ctx);
    Model *model;
    cJSON *json;
    assert_ok(ctx, json_read(&json, ctx, scratch_golden(scratch, "exchange/diffusers/transformer/config.json")));
    cJSON_DeleteItemFromObject(json, key);
    if (value) cJSON_AddItemToObject(json, key, cJSON_Parse(value));
    assert_ok(ctx, file_make_folder(ctx, scratch_path(scratch, "f/transformer")));
    assert_ok(ctx, json_write(ctx, scratch_path(scratch, "f/transformer/config.json"), json));
    cJSON_Delete(json);
    FileMap map;
    assert_ok(ctx, file_map(&map, ctx,
                            scratch_golden(scratch, "exchange/diffusers/transformer/"
                                                    "diffusion_pytorch_model.safetensors")));
    assert_ok(ctx, file_write(ctx, scratch_path(scratch, "f/transformer/diffusion_pytorch_model.safetensors"), map.data,
                              map.size));
    file_unmap(&map);
    KinditStatus status = exchange_import(&model, ctx, engine, scratch_path(scratch, "f"), 0);
    if (status == KINDIT_OK) fail_msg("%s: %s was taken", key, value);
    if (!strstr(kindit_context_message(ctx), message))
        fail_msg("%s: message \"%s\" lacks \"%s\"", key, kindit_context_message(ctx), message);
    engine_close(&engine);
}

static void test_configs_refused(void **state) {
    Scratch *scratch = *state;
    check_config_refused(scratch, "num_layers", NULL, "\"num_layers\" is missing");
    check_config_refused(scratch, "num_layers", "1", "is not one that a DiT of this size has");
    check_config_refused(scratch, "num_layers", "3", "transformer_blocks.2");
    check_config_refused(scratch, "num_layers", "1e9", "num_layers");
    check_config_refused(scratch, "attention_head_dim", "1048576", "width");
    check_config_refused(scratch, "attention_head_dim", "4", "expected shape (8");
    check_config_refused(scratch, "out_channels", "5", "expected 4, or 8");
    check_config_refused(scratch, "norm_eps", "-1", "mlp_norm_eps");
    check_config_refused(scratch, "norm_type", "\"layer_norm\"", "\"ada_norm_zero\"");
    check_config_refused(scratch, "activation_fn", "\"geglu\"", "gelu-approximate");
    check_config_refused(scratch, "attention_bias", "false", "expected true");
    check_config_refused(scratch, "_class_name", "\"PixArtTransformer2DModel\"", "DiTTransformer2DModel");
    check_config_refused(scratch, "num_embeds_ada_norm", "4", "expected shape (5");
}

static void test_files_refused(void **state) {
    Scratch *scratch = *state;
    KinditContext *ctx = scratch->ctx;
    Engine *engine = open_engine(ctx);
    Model *model;
    assert_fails(ctx, exchange_import(&model, ctx, engine, scratch_golden(scratch, "exchange/dit/ema.pt"), 0),
                 KINDIT_ERROR_ARGUMENT, "--heads");
    assert_fails(ctx, exchange_import(&model, ctx, engine, scratch_golden(scratch, "exchange/dit/ema.pt"), 5),
                 KINDIT_ERROR_FORMAT, "heads 5");
    assert_fails(ctx, exchange_import(&model, ctx, engine, scratch_golden(scratch, "exchange/types.pt"), 2),
                 KINDIT_ERROR_FORMAT, "not an original DiT");
    assert_fails(ctx, exchange_import(&model, ctx, engine, scratch_golden(scratch, "exchange/dit"), 2), KINDIT_ERROR_IO,
                 "config.json");
    DitConfig config = models_config(true);
    Model *factored = models_create(ctx, engine, &config);
    ExchangeReport report;
    assert_fails(ctx, exchange_export(factored, EXCHANGE_DIT, scratch_path(scratch, "x.safetensors"), &report),
                 KINDIT_ERROR_ARGUMENT, "one class or the learngene");
    model_close(&factored);
    engine_close(&engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_original_file),
        scratch_test(test_original_checkpoint),
        scratch_test(test_diffusers_pipeline),
        scratch_test(test_diffusers_transformer),
        scratch_test(test_diffusers_bin),
        scratch_test(test_settings_matter),
        scratch_test(test_class_names),
        scratch_test(test_round_trips),
        scratch_test(test_merge),
        scratch_test(test_label_padding),
        scratch_test(test_time_fit),
        scratch_test(test_configs_refused),
        scratch_test(test_files_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
