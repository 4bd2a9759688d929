// Files of statistics: those of pytorch-fid and of ADM, our own there and back, and wrong ones.
#include <math.h>

#include "formats/npy.h"
#include "metrics/golden_arrays.h"
#include "metrics/statistics_file.h"

static void test_reads_files_of_others(void **state) {
    Scratch *scratch = *state;
    StatisticsFile file, adm;
    double mean[5], covariance[25];
    golden_doubles(scratch, "metrics/pytorch_fid.npz", "mu", 5, mean);
    golden_doubles(scratch, "metrics/pytorch_fid.npz", "sigma", 25, covariance);
    assert_true(statistics_file_is(scratch_golden(scratch, "metrics/pytorch_fid.npz")));
    assert_ok(scratch->ctx,
              statistics_file_read(&file, scratch->ctx, scratch_golden(scratch, "metrics/pytorch_fid.npz")));
    assert_int_equal(file.features.d, 5);
    assert_int_equal(file.spatial.d, 0);
    assert_memory_equal(file.features.mean, mean, sizeof mean);
    assert_memory_equal(file.features.covariance, covariance, sizeof covariance);
    assert_ok(scratch->ctx, statistics_file_read(&adm, scratch->ctx, scratch_golden(scratch, "metrics/adm.npz")));
    assert_int_equal(adm.spatial.d, 3);
    for (int i = 0; i < 5; i++) assert_true(adm.features.mean[i] == (float)mean[i]);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) assert_true(adm.spatial.covariance[i * 3 + j] == covariance[i * 5 + j]);
    statistics_file_close(&file);
    statistics_file_close(&adm);
    assert_false(statistics_file_is(scratch_golden(scratch, "metrics/make.py")));
    assert_false(statistics_file_is(scratch_golden(scratch, "metrics/frechet.npz")));
}

static void test_there_and_back(void **state) {
    Scratch *scratch = *state;
    double mean[2] = {1, -2}, covariance[4] = {2, 0.5, 0.5, 1}, spatial_mean[1] = {7}, spatial_covariance[1] = {3};
    StatisticsFile file = {{2, 1234, mean, covariance}, {1, 1234, spatial_mean, spatial_covariance}}, read;
    const char *path = scratch_path(scratch, "statistics.npz");
    assert_ok(scratch->ctx, statistics_file_write(&file, scratch->ctx, path));
    assert_ok(scratch->ctx, statistics_file_read(&read, scratch->ctx, path));
    assert_int_equal(read.features.n, 1234);
    assert_int_equal(read.spatial.n, 1234);
    assert_memory_equal(read.features.mean, mean, sizeof mean);
    assert_memory_equal(read.features.covariance, covariance, sizeof covariance);
    assert_true(read.spatial.mean[0] == 7 && read.spatial.covariance[0] == 3);
    statistics_file_close(&read);
    file.spatial.d = 0;
    assert_ok(scratch->ctx, statistics_file_write(&file, scratch->ctx, path));
    assert_ok(scratch->ctx, statistics_file_read(&read, scratch->ctx, path));
    assert_int_equal(read.spatial.d, 0);
    statistics_file_close(&read);
}

static void check_refused(Scratch *scratch, const Tensor *arrays, int n, KinditStatus status, const char *message) {
    StatisticsFile file;
    const char *path = scratch_path(scratch, "wrong.npz");
    assert_ok(scratch->ctx, npz_write(scratch->ctx, path, arrays, n));
    assert_fails(scratch->ctx, statistics_file_read(&file, scratch->ctx, path), status, message);
}

static void test_refuses_what_does_not_fit(void **state) {
    Scratch *scratch = *state;
    double mean[2] = {1, 2}, covariance[9] = {2, 0.5, 0.5, 1}, skew[4] = {2, 0.5, 0.25, 1}, bad[4] = {2, NAN, NAN, 1};
    Tensor mu = {.name = "mu", .dtype = DTYPE_F64, .n_dims = 1, .shape = {2}, .data = mean};
    Tensor sigma = {.name = "sigma", .dtype = DTYPE_F64, .n_dims = 2, .shape = {2, 2}, .data = covariance};
    check_refused(scratch, &mu, 1, KINDIT_ERROR_FORMAT, "no array \"sigma\"");
    check_refused(scratch, &sigma, 1, KINDIT_ERROR_FORMAT, "no array \"mu\"");
    Tensor pair[2] = {mu, sigma};
    pair[1].shape[0] = pair[1].shape[1] = 3;
    check_refused(scratch, pair, 2, KINDIT_ERROR_FORMAT, "sigma: expected float or double (d, d)");
    pair[1] = sigma;
    pair[1].data = skew;
    check_refused(scratch, pair, 2, KINDIT_ERROR_FORMAT, "element (1, 0) is 0.25");
    pair[1].data = bad;
    check_refused(scratch, pair, 2, KINDIT_ERROR_NUMERIC, "sigma: element 1 is not finite");
    pair[1] = sigma;
    pair[0].dtype = DTYPE_I64;
    check_refused(scratch, pair, 2, KINDIT_ERROR_FORMAT, "mu: expected float or double (d)");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_reads_files_of_others),
        scratch_test(test_there_and_back),
        scratch_test(test_refuses_what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
