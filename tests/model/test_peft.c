// Adapters of the peft package: what it wrote is read and computes what it computed (golden/adapt/peft, whose base is
// golden/exchange/diffusers); what is written is read again; what does not fit is refused by name.
#include <math.h>

#include "base/json.h"
#include "model/merge.h"
#include "model/peft.h"
#include "models.h"

static const char *const cases[] = {"lora", "dora", "loha", "oft", "oft_neumann"};
enum { N_CASES = sizeof cases / sizeof *cases, MOST = 8 };

typedef struct Fixture {
    Scratch *scratch;
    KinditContext *ctx;
    Engine *engine;
    Model *base;
} Fixture;

static Fixture fixture_open(void **state) {
    Fixture f = {.scratch = *state, .ctx = ((Scratch *)*state)->ctx};
    assert_ok(f.ctx, engine_create(&f.engine, f.ctx));
    assert_ok(f.ctx, exchange_import(&f.base, f.ctx, f.engine, scratch_golden(f.scratch, "exchange/diffusers"), 0));
    return f;
}

static void fixture_close(Fixture *f) {
    model_close(&f->base);
    engine_close(&f->engine);
}

static const char *golden(Fixture *f, const char *name, const char *file) {
    char path[256];
    snprintf(path, sizeof path, "adapt/peft/%s%s%s", name, file ? "/" : "", file ? file : "");
    return scratch_golden(f->scratch, path);
}

static void read_ints(const Safetensors *file, const char *name, int *out) {
    const Tensor *tensor = safetensors_find(file, name);
    assert_non_null(tensor);
    assert_true(tensor->n_elements <= MOST);
    for (size_t i = 0; i < tensor->n_elements; i++) {
        int64_t value;
        memcpy(&value, (const char *)tensor->data + i * sizeof value, sizeof value);
        out[i] = (int)value;
    }
}

// || model(x, t, y) - out || / || out ||
static double distance(Fixture *f, const Model *model, const char *name) {
    Safetensors io, expected;
    DitWorkspace *workspace;
    int t[MOST], y[MOST], slot[MOST];
    float times[MOST], *x, *t_device, *out;
    double error = 0, size = 0;
    assert_ok(f->ctx, safetensors_open(&io, f->ctx, scratch_golden(f->scratch, "exchange/diffusers/io.safetensors")));
    assert_ok(f->ctx, safetensors_open(&expected, f->ctx, golden(f, name, "io.safetensors")));
    const Tensor *images = safetensors_find(&io, "x"), *outputs = safetensors_find(&expected, "out");
    const int n = (int)images->shape[0];
    float *host = calloc(images->n_elements + 2 * outputs->n_elements, sizeof *host);
    float *found = host + images->n_elements, *theirs = found + outputs->n_elements;
    assert_ok(f->ctx, tensor_read_float(images, f->ctx, 0, images->n_elements, host));
    assert_ok(f->ctx, tensor_read_float(outputs, f->ctx, 0, outputs->n_elements, theirs));
    read_ints(&io, "t", t);
    read_ints(&io, "y", y);
    for (int i = 0; i < n; i++) {
        times[i] = (float)t[i];
        slot[i] = -1;
    }
    assert_ok(f->ctx, engine_alloc(f->engine, images->n_elements, &x));
    assert_ok(f->ctx, engine_alloc(f->engine, (size_t)n, &t_device));
    assert_ok(f->ctx, engine_alloc(f->engine, outputs->n_elements, &out));
    engine_upload(f->engine, x, host, images->n_elements);
    engine_upload(f->engine, t_device, times, (size_t)n);
    const Gate gate = {n, 0, slot, NULL, NULL};
    assert_ok(f->ctx, dit_workspace_create(&workspace, model->dit, f->engine, n, (DitMode){0}));
    dit_forward(model->dit, workspace, model->params.shared,
                &(DitBatch){.n = n, .x = x, .t = t_device, .labels = y, .gate = &gate}, out);
    engine_download(f->engine, found, out, outputs->n_elements);
    for (size_t i = 0; i < outputs->n_elements; i++) {
        error += pow((double)found[i] - (double)theirs[i], 2);
        size += (double)theirs[i] * (double)theirs[i];
    }
    dit_workspace_close(&workspace);
    engine_free(f->engine, &out);
    engine_free(f->engine, &t_device);
    engine_free(f->engine, &x);
    free(host);
    safetensors_close(&expected);
    safetensors_close(&io);
    return sqrt(error / size);
}

// 1e-5: ten times what single precision leaves of these few layers.
static void test_reads_peft(void **state) {
    Fixture f = fixture_open(state);
    for (int i = 0; i < N_CASES; i++) {
        Model *adapted, *dense;
        assert_ok(f.ctx, peft_read(&adapted, f.base, golden(&f, cases[i], NULL)));
        assert_ok(f.ctx, model_merge_adapter(&dense, adapted));
        const double error = distance(&f, adapted, cases[i]), merged = distance(&f, dense, cases[i]);
        if (!(error < 1e-5 && merged < 1e-5)) fail_msg("%s: off by %g, merged %g", cases[i], error, merged);
        assert_true(distance(&f, f.base, cases[i]) > 1e-2); // the adapter does something
        model_close(&dense);
        model_close(&adapted);
    }
    fixture_close(&f);
}

// Written and read again, tensor by tensor; the base beside it is the base.
static void test_round_trip(void **state) {
    static const int classes[] = {0, 1, 2, 3, 4, 5, 6, 7};
    Fixture f = fixture_open(state);
    for (int i = 0; i < N_CASES; i++) {
        Model *adapted, *again, *base;
        ExchangeReport report;
        char path[1100], folder[1024];
        snprintf(folder, sizeof folder, "%s", scratch_path(f.scratch, cases[i]));
        assert_ok(f.ctx, peft_read(&adapted, f.base, golden(&f, cases[i], NULL)));
        assert_ok(f.ctx, peft_write(adapted, folder, &report));
        assert_true(report.time_error == 0); // the base has diffusers' frequencies
        snprintf(path, sizeof path, "%s/base", folder);
        assert_ok(f.ctx, exchange_import(&base, f.ctx, f.engine, path, 0));
        models_assert_equal(base, f.base, classes, f.base->dit->config.n_classes, STORAGE_F32);
        assert_ok(f.ctx, peft_read(&again, base, folder));
        models_assert_equal(again, adapted, classes, f.base->dit->config.n_classes, STORAGE_F32);
        model_close(&base);
        model_close(&again);
        model_close(&adapted);
    }
    fixture_close(&f);
}

// The tensors of the golden LoRA, one of them left out, renamed or cut.
static void write_changed(Fixture *f, const char *folder, int change) {
    Safetensors file;
    Tensor tensors[64];
    char path[1100];
    int n = 0;
    assert_ok(f->ctx, file_make_folder(f->ctx, folder));
    assert_ok(f->ctx, safetensors_open(&file, f->ctx, golden(f, "lora", "adapter_model.safetensors")));
    for (int i = change == 0; i < file.n_tensors; i++) tensors[n++] = file.tensors[i];
    if (change == 1) {
        tensors[n] = tensors[0];
        tensors[n++].name = "base_model.model.proj_out_1.lora_A.weight";
    }
    if (change == 2) tensors[0].shape[0]--;
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    assert_ok(f->ctx, safetensors_write(f->ctx, path, tensors, n, NULL, 0));
    safetensors_close(&file);
    FileMap map;
    assert_ok(f->ctx, file_map(&map, f->ctx, golden(f, "lora", "adapter_config.json")));
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    assert_ok(f->ctx, file_write(f->ctx, path, map.data, map.size));
    file_unmap(&map);
}

static void test_tensors_refused(void **state) {
    static const char *const texts[] = {"lora_", "proj_out_1.lora_A.weight\" is no part", "lora_"};
    Fixture f = fixture_open(state);
    for (int change = 0; change < 3; change++) {
        Model *out;
        char name[16], folder[1024];
        snprintf(name, sizeof name, "bad%d", change);
        snprintf(folder, sizeof folder, "%s", scratch_path(f.scratch, name));
        write_changed(&f, folder, change);
        assert_fails(f.ctx, peft_read(&out, f.base, folder), KINDIT_ERROR_FORMAT, texts[change]);
        assert_null(out);
    }
    fixture_close(&f);
}

static void test_config_refused(void **state) {
    Scratch *scratch = *state;
    static const struct {
        const char *json, *text;
        KinditStatus status;
    } bad[] = {
        {"{\"peft_type\": \"IA3\"}", "\"IA3\"", KINDIT_ERROR_UNSUPPORTED},
        {"{\"r\": 2}", "peft_type", KINDIT_ERROR_FORMAT},
        {"{\"peft_type\": \"LORA\", \"r\": 2}", "lora_alpha", KINDIT_ERROR_FORMAT},
        {"{\"peft_type\": \"LORA\", \"r\": 0, \"lora_alpha\": 1}", "\"r\"", KINDIT_ERROR_FORMAT},
        {"{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 1, \"use_rslora\": true}", "use_rslora",
         KINDIT_ERROR_UNSUPPORTED},
        {"{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 1, \"rank_pattern\": {\"to_q\": 4}}", "rank_pattern",
         KINDIT_ERROR_UNSUPPORTED},
        {"{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 1, \"bias\": \"all\"}", "bias", KINDIT_ERROR_FORMAT},
        {"{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 1, \"modules_to_save\": [\"x\"]}", "modules_to_save",
         KINDIT_ERROR_UNSUPPORTED},
        {"{\"peft_type\": \"OFT\", \"r\": 0, \"oft_block_size\": 4, \"use_cayley_neumann\": false}", "oft_block_size",
         KINDIT_ERROR_UNSUPPORTED},
        {"{\"peft_type\": \"OFT\", \"r\": 2, \"use_cayley_neumann\": false, \"block_share\": true}", "block_share",
         KINDIT_ERROR_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        AdapterConfig adapter;
        cJSON *json = cJSON_Parse(bad[i].json);
        assert_non_null(json);
        assert_fails(scratch->ctx, peft_config_parse(json, scratch->ctx, "adapter_config.json", &adapter),
                     bad[i].status, bad[i].text);
        cJSON_Delete(json);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_reads_peft),
        scratch_test(test_round_trip),
        scratch_test(test_tensors_refused),
        scratch_test(test_config_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
