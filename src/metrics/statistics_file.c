#include "metrics/statistics_file.h"

#include <math.h>
#include <string.h>

#include "engine/symmetric.h"
#include "formats/npy.h"

typedef struct Source {
    KinditContext *ctx;
    const char *name;
    const void *data;
    size_t size;
} Source;

static double number_at(const Tensor *array, size_t i) {
    const char *at = (const char *)array->data + i * dtype_size(array->dtype);
    double value;
    float single;
    if (array->dtype == DTYPE_F64) {
        memcpy(&value, at, sizeof value);
        return value;
    }
    memcpy(&single, at, sizeof single);
    return single;
}

// values = an array of `expected` numbers, its shape checked by the caller.
static KinditStatus take_numbers(const Source *source, const char *key, const Tensor *array, double **values) {
    TRY(memory_alloc(source->ctx, array->n_elements, sizeof **values, values));
    for (size_t i = 0; i < array->n_elements; i++) {
        (*values)[i] = number_at(array, i);
        if (!isfinite((*values)[i]))
            return context_fail(source->ctx, KINDIT_ERROR_NUMERIC, "%s: %s: element %zu is not finite", source->name,
                                key, i);
    }
    return KINDIT_OK;
}

static KinditStatus read_array(const Source *source, const char *key, int n_dims, int64_t width, double **values,
                               int64_t *found) {
    Npy npy;
    char shape[TENSOR_SHAPE_TEXT];
    TRY(npz_parse(&npy, source->ctx, source->name, source->data, source->size, key));
    const Tensor *array = &npy.array;
    KinditStatus status = KINDIT_OK;
    bool good = (array->dtype == DTYPE_F64 || array->dtype == DTYPE_F32) && array->n_dims == n_dims;
    for (int i = 0; i < n_dims && good; i++) good = width ? array->shape[i] == width : true;
    if (good && (array->shape[0] < 1 || array->shape[0] > SYMMETRIC_LARGEST)) good = false;
    if (!good)
        status = context_fail(source->ctx, KINDIT_ERROR_FORMAT,
                              "%s: %s: expected float or double %s with 1 to %d features, found %s %s", source->name,
                              key, n_dims == 1 ? "(d)" : "(d, d), d as mu has it,", SYMMETRIC_LARGEST,
                              dtype_name(array->dtype), tensor_shape_text(shape, array->n_dims, array->shape));
    if (!status) *found = array->shape[0];
    if (!status) status = take_numbers(source, key, array, values);
    npy_close(&npy);
    return status;
}

static KinditStatus check_symmetric(const Source *source, const char *key, const Statistics *statistics) {
    const size_t d = (size_t)statistics->d;
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j < i; j++) {
            const double a = statistics->covariance[i * d + j], b = statistics->covariance[j * d + i];
            const double scale = sqrt(fabs(statistics->covariance[i * d + i] * statistics->covariance[j * d + j]));
            if (fabs(a - b) > 1e-5 * scale + 1e-12)
                return context_fail(source->ctx, KINDIT_ERROR_FORMAT,
                                    "%s: %s: no covariance, for element (%zu, %zu) is %g and (%zu, %zu) is %g",
                                    source->name, key, i, j, a, j, i, b);
        }
    return KINDIT_OK;
}

static KinditStatus read_pair(Statistics *out, const Source *source, const char *mean, const char *covariance) {
    int64_t d = 0;
    TRY(read_array(source, mean, 1, 0, &out->mean, &d));
    out->d = (int)d;
    TRY(read_array(source, covariance, 2, d, &out->covariance, &d));
    return check_symmetric(source, covariance, out);
}

// Is there such an array? The message of its absence is nobody's.
static bool has_array(const Source *source, const char *key) {
    Npy npy;
    if (npz_parse(&npy, NULL, source->name, source->data, source->size, key)) return false;
    npy_close(&npy);
    return true;
}

static KinditStatus read_count(Statistics *out, const Source *source) {
    Npy npy;
    int64_t n;
    TRY(npz_parse(&npy, source->ctx, source->name, source->data, source->size, "n"));
    bool good = npy.array.dtype == DTYPE_I64 && npy.array.n_elements == 1;
    if (good) memcpy(&n, npy.array.data, sizeof n);
    if (good && n >= 0) out->n = n;
    npy_close(&npy);
    if (good && n >= 0) return KINDIT_OK;
    return context_fail(source->ctx, KINDIT_ERROR_FORMAT, "%s: n: expected one int64, not below 0", source->name);
}

KinditStatus statistics_file_parse(StatisticsFile *out, KinditContext *ctx, const char *name, const void *data,
                                   size_t size) {
    const Source source = {ctx, name, data, size};
    *out = (StatisticsFile){0};
    KinditStatus status = read_pair(&out->features, &source, "mu", "sigma");
    if (!status && has_array(&source, "n")) status = read_count(&out->features, &source);
    if (!status && has_array(&source, "mu_s")) status = read_pair(&out->spatial, &source, "mu_s", "sigma_s");
    if (!status && out->spatial.d) out->spatial.n = out->features.n;
    if (status) statistics_file_close(out);
    return status;
}

KinditStatus statistics_file_read(StatisticsFile *out, KinditContext *ctx, const char *path) {
    FileMap map;
    *out = (StatisticsFile){0};
    TRY(file_map(&map, ctx, path));
    KinditStatus status = statistics_file_parse(out, ctx, path, map.data, map.size);
    file_unmap(&map);
    return status;
}

bool statistics_file_is(const char *path) {
    FileMap map;
    if (file_map(&map, NULL, path)) return false;
    const Source source = {NULL, path, map.data, map.size};
    const bool found = has_array(&source, "mu");
    file_unmap(&map);
    return found;
}

KinditStatus statistics_file_write(const StatisticsFile *file, KinditContext *ctx, const char *path) {
    const Statistics *features = &file->features, *spatial = &file->spatial;
    const int64_t n = features->n;
    const Tensor arrays[5] = {
        {.name = "mu", .dtype = DTYPE_F64, .n_dims = 1, .shape = {features->d}, .data = features->mean},
        {.name = "sigma",
         .dtype = DTYPE_F64,
         .n_dims = 2,
         .shape = {features->d, features->d},
         .data = features->covariance},
        {.name = "n", .dtype = DTYPE_I64, .n_dims = 1, .shape = {1}, .data = &n},
        {.name = "mu_s", .dtype = DTYPE_F64, .n_dims = 1, .shape = {spatial->d}, .data = spatial->mean},
        {.name = "sigma_s",
         .dtype = DTYPE_F64,
         .n_dims = 2,
         .shape = {spatial->d, spatial->d},
         .data = spatial->covariance},
    };
    return npz_write(ctx, path, arrays, spatial->d ? 5 : 3);
}

void statistics_file_close(StatisticsFile *file) {
    statistics_close(&file->features);
    statistics_close(&file->spatial);
}
