#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scratch.h"

static int count_entries(const char *folder) {
    DIR *directory = opendir(folder);
    assert_non_null(directory);
    int n = 0;
    for (struct dirent *entry; (entry = readdir(directory));)
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(directory);
    return n;
}

static void assert_holds(Scratch *scratch, const char *path, const char *expected) {
    FileMap map;
    assert_ok(scratch->ctx, file_map(&map, scratch->ctx, path));
    assert_int_equal(map.size, strlen(expected));
    if (map.size) assert_memory_equal(map.data, expected, map.size);
    file_unmap(&map);
    assert_null(map.data);
}

static void test_write_replaces_whole(void **state) {
    Scratch *scratch = *state;
    const char *path = scratch_path(scratch, "file");
    assert_ok(scratch->ctx, file_write(scratch->ctx, path, "a longer first", 14));
    assert_ok(scratch->ctx, file_write(scratch->ctx, path, "second", 6));
    assert_holds(scratch, path, "second");
    assert_ok(scratch->ctx, file_write(scratch->ctx, path, NULL, 0));
    assert_holds(scratch, path, "");
    assert_int_equal(count_entries(scratch->folder), 1);
}

static void test_abandon_leaves_nothing(void **state) {
    Scratch *scratch = *state;
    const char *path = scratch_path(scratch, "file");
    assert_ok(scratch->ctx, file_write(scratch->ctx, path, "old", 3));
    FileWriter writer;
    assert_ok(scratch->ctx, file_begin(&writer, scratch->ctx, path));
    fputs("new", writer.stream);
    assert_int_equal(count_entries(scratch->folder), 2);
    file_abandon(&writer);
    file_abandon(&writer); // harmless
    assert_holds(scratch, path, "old");
    assert_int_equal(count_entries(scratch->folder), 1);
}

// A limit on file size stands for a disk that fills in the middle of a write.
static void test_full_disk_keeps_the_old_file(void **state) {
    Scratch *scratch = *state;
    const char *path = scratch_path(scratch, "file");
    assert_ok(scratch->ctx, file_write(scratch->ctx, path, "old", 3));
    static const char big[100000];
    struct rlimit kept, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &kept), 0);
    small = (struct rlimit){.rlim_cur = 8192, .rlim_max = kept.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    KinditStatus status = file_write(scratch->ctx, path, big, sizeof big);
    setrlimit(RLIMIT_FSIZE, &kept);
    signal(SIGXFSZ, SIG_DFL);
    assert_fails(scratch->ctx, status, KINDIT_ERROR_IO, "File too large");
    assert_holds(scratch, path, "old");
    assert_int_equal(count_entries(scratch->folder), 1);
}

// Small writes fail only when the buffer is flushed: file_commit must notice.
static void test_commit_notices_a_late_failure(void **state) {
    Scratch *scratch = *state;
    const char *path = scratch_path(scratch, "file");
    assert_ok(scratch->ctx, file_write(scratch->ctx, path, "old", 3));
    FileWriter writer;
    assert_ok(scratch->ctx, file_begin(&writer, scratch->ctx, path));
    fclose(writer.stream);
    writer.stream = fopen("/dev/full", "wb");
    assert_non_null(writer.stream);
    assert_int_equal(fwrite("new", 1, 3, writer.stream), 3);
    assert_fails(scratch->ctx, file_commit(&writer, scratch->ctx), KINDIT_ERROR_IO, "No space left");
    assert_holds(scratch, path, "old");
    assert_int_equal(count_entries(scratch->folder), 1);
}

static void test_places_that_cannot_be_written(void **state) {
    Scratch *scratch = *state;
    char inside[1100];
    const char *path = scratch_path(scratch, "file");
    assert_ok(scratch->ctx, file_write(scratch->ctx, path, "x", 1));
    snprintf(inside, sizeof inside, "%s/below", path);
    assert_fails(scratch->ctx, file_write(scratch->ctx, inside, "x", 1), KINDIT_ERROR_IO, "Not a directory");
    assert_fails(scratch->ctx, file_make_folder(scratch->ctx, inside), KINDIT_ERROR_IO, "Not a directory");
    assert_int_equal(file_write(scratch->ctx, "/proc/kindit", "x", 1), KINDIT_ERROR_IO);
    assert_fails(scratch->ctx, file_write(scratch->ctx, scratch->folder, "x", 1), KINDIT_ERROR_IO,
                 "not a regular file");
    assert_fails(scratch->ctx, file_write(scratch->ctx, "/dev/null", "x", 1), KINDIT_ERROR_IO, "not a regular file");
    struct stat info;
    assert_true(stat("/dev/null", &info) == 0 && S_ISCHR(info.st_mode));
}

static void test_map_takes_regular_files_only(void **state) {
    Scratch *scratch = *state;
    FileMap map;
    assert_fails(scratch->ctx, file_map(&map, scratch->ctx, "/nonexistent/f"), KINDIT_ERROR_IO, "/nonexistent/f");
    assert_fails(scratch->ctx, file_map(&map, scratch->ctx, scratch->folder), KINDIT_ERROR_IO, "a folder");
    const char *pipe = scratch_path(scratch, "pipe");
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_int_equal(file_map(&map, scratch->ctx, pipe), KINDIT_ERROR_IO); // and does not wait for a writer
}

static void test_folders(void **state) {
    Scratch *scratch = *state;
    const char *path = scratch_path(scratch, "a/b//c/");
    assert_ok(scratch->ctx, file_make_folder(scratch->ctx, path));
    assert_ok(scratch->ctx, file_make_folder(scratch->ctx, path));
    assert_true(file_is_folder(path));
    char link[1100];
    snprintf(link, sizeof link, "%s/a/link", scratch->folder);
    assert_int_equal(symlink("/etc", link), 0);
    assert_ok(scratch->ctx, file_remove_tree(scratch->ctx, scratch_path(scratch, "a")));
    assert_false(file_exists(scratch_path(scratch, "a")));
    assert_true(file_exists("/etc/passwd")); // the link went, not what it named
    assert_ok(scratch->ctx, file_remove_tree(scratch->ctx, scratch_path(scratch, "a")));
}

static void test_paths_are_bounded(void **state) {
    Scratch *scratch = *state;
    char path[1024];
    assert_ok(scratch->ctx, file_path(path, scratch->ctx, "%01023d", 0));
    assert_int_equal(strlen(path), 1023);
    assert_int_equal(file_path(path, scratch->ctx, "%01024d", 0), KINDIT_ERROR_ARGUMENT);
}

// FIPS 180-4 examples, and the lengths around which the padding changes (digests by sha256sum).
static void test_sha256(void **state) {
    (void)state;
    char hex[65];
    file_sha256("", 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    file_sha256("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    file_sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, hex);
    assert_string_equal(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    char many[1000];
    memset(many, 'a', sizeof many);
    file_sha256(many, 55, hex);
    assert_string_equal(hex, "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318");
    file_sha256(many, 64, hex);
    assert_string_equal(hex, "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb");
    file_sha256(many, 1000, hex);
    assert_string_equal(hex, "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_write_replaces_whole),
        scratch_test(test_abandon_leaves_nothing),
        scratch_test(test_full_disk_keeps_the_old_file),
        scratch_test(test_commit_notices_a_late_failure),
        scratch_test(test_places_that_cannot_be_written),
        scratch_test(test_map_takes_regular_files_only),
        scratch_test(test_folders),
        scratch_test(test_paths_are_bounded),
        scratch_test(test_sha256),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
