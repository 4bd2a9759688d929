#include "base/bf16.h"
#include "formats/quant.h"
#include "kind/energy.h"

// One row and what it becomes in a file.
typedef struct Row {
    float *values, *rounded;
    uint8_t *q;
    uint16_t *scales;
} Row;

static bool round_row(Row *row, StorageType type, const ParamSpec *spec) {
    const int bits = storage_bits(type, spec);
    if (bits == 0) {
        for (size_t i = 0; i < spec->row; i++)
            row->rounded[i] = type == STORAGE_F32 ? row->values[i] : bf16_round(row->values[i]);
        return true;
    }
    return quant_encode_row(bits, row->values, spec->row, row->q, row->scales) &&
           quant_decode_row(bits, row->q, row->scales, spec->row, row->rounded);
}

// *loss += the share of one tensor's squares that rounding moves.
static KinditStatus add_tensor(double *loss, const Model *model, StorageType type, const ParamSpec *spec, Row *row) {
    double moved = 0, sum = 0;
    for (int64_t k = 0; k < spec->shape[0]; k++) {
        engine_download(model->engine, row->values, model->params.shared + spec->shared_offset + (size_t)k * spec->row,
                        spec->row);
        if (!round_row(row, type, spec))
            return context_fail(model->ctx, KINDIT_ERROR_NUMERIC, "tensor \"%s\": %s cannot hold its numbers",
                                spec->name, storage_name(type));
        for (size_t i = 0; i < spec->row; i++) {
            const double difference = (double)row->values[i] - (double)row->rounded[i];
            moved += difference * difference;
            sum += (double)row->values[i] * (double)row->values[i];
        }
    }
    *loss += sum > 0 ? moved / sum : 0;
    return KINDIT_OK;
}

static KinditStatus add_matrices(double *loss, const Model *model, StorageType type, Row *row) {
    const Dit *dit = model->dit;
    int n_matrices = 0;
    for (int i = 0; i < dit->n_linears; i++) {
        const Linear *linear = dit->linears[i];
        if (linear->kind != &linear_factored) continue;
        n_matrices++;
        TRY(add_tensor(loss, model, type, &dit->layout.specs[linear->param[FACTORED_U]], row));
        TRY(add_tensor(loss, model, type, &dit->layout.specs[linear->param[FACTORED_V]], row));
    }
    *loss /= n_matrices;
    return KINDIT_OK;
}

KinditStatus energy_measure_rounding(double *out, const Model *model, StorageType type) {
    Row row = {0};
    size_t longest = 0;
    for (int i = 0; i < model->dit->layout.n_specs; i++)
        if (model->dit->layout.specs[i].row > longest) longest = model->dit->layout.specs[i].row;
    *out = 0;
    KinditStatus status = memory_alloc(model->ctx, longest, sizeof *row.values, &row.values);
    if (!status) status = memory_alloc(model->ctx, longest, sizeof *row.rounded, &row.rounded);
    if (!status) status = memory_alloc(model->ctx, longest, sizeof *row.q, &row.q);
    if (!status) status = memory_alloc(model->ctx, longest, sizeof *row.scales, &row.scales);
    if (!status) status = add_matrices(out, model, type, &row);
    memory_free(&row.values);
    memory_free(&row.rounded);
    memory_free(&row.q);
    memory_free(&row.scales);
    return status;
}
