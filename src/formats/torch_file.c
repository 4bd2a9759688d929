#include "formats/torch_file.h"

#include <stdlib.h>
#include <string.h>

#include "formats/pickle.h"
#include "formats/zip.h"
#include "formats/zip_layout.h"

static const struct {
    const char *global;
    Dtype dtype;
} storages[] = {
    {"torch FloatStorage", DTYPE_F32},  {"torch BFloat16Storage", DTYPE_BF16}, {"torch HalfStorage", DTYPE_F16},
    {"torch DoubleStorage", DTYPE_F64}, {"torch LongStorage", DTYPE_I64},      {"torch IntStorage", DTYPE_I32},
    {"torch ByteStorage", DTYPE_U8},
};
static const char rebuild_tensor[] = "torch._utils _rebuild_tensor_v2";
static const char rebuild_parameter[] = "torch._utils _rebuild_parameter";
static const char *const allowed_globals[] = {
    rebuild_tensor,       rebuild_parameter,       "collections OrderedDict",
    "argparse Namespace", // the arguments of a training run, kept beside its weights
    "torch FloatStorage", "torch BFloat16Storage", "torch HalfStorage",       "torch DoubleStorage",
    "torch LongStorage",  "torch IntStorage",      "torch ByteStorage",       NULL,
};

static const char pickle_name[] = "data.pkl";

// The pickle of 0x1950a86a20f9469cfc6c, with which files begin that are older than the archives.
static const uint8_t old_magic[] = {0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};

typedef struct Entry {
    ZipMember member;
    const uint8_t *bytes; // once read and checked
} Entry;

typedef struct Storage {
    const char *key;
    Dtype dtype;
    int64_t numel;
    const uint8_t *bytes; // NULL until found
} Storage;

typedef struct Reader {
    KinditContext *ctx;
    Safetensors *file;
    bool old;          // no archive
    size_t n_storages; // of an old file
    Storage *storages; // sorted by key
    Zip zip;           // and all that follows: of an archive
    size_t n_entries;
    Entry *entries;    // sorted by name
    char prefix[1024]; // "archive/", what every name of the archive begins with
} Reader;

static bool is_archive(const void *data, size_t size) {
    return size >= 4 && memcmp(data, "PK\3\4", 4) == 0;
}
static bool is_old(const void *data, size_t size) {
    return size >= sizeof old_magic && memcmp(data, old_magic, sizeof old_magic) == 0;
}

// ---- the archive ---------------------------------------------------------------------------------------------------

static int compare_entries(const void *a, const void *b) {
    const ZipMember *x = &((const Entry *)a)->member, *y = &((const Entry *)b)->member;
    int order = memcmp(x->name, y->name, x->name_size < y->name_size ? x->name_size : y->name_size);
    return order ? order : (x->name_size > y->name_size) - (x->name_size < y->name_size);
}

static bool ends_with(const ZipMember *member, const char *suffix) {
    size_t n = strlen(suffix);
    return member->name_size >= n && memcmp(member->name + member->name_size - n, suffix, n) == 0;
}

// Lists the members, and finds the folder that they lie in: that of data.pkl.
static KinditStatus list_entries(Reader *r) {
    Zip count = r->zip;
    ZipMember member;
    size_t n = 0;
    bool more = true;
    TRY(zip_next(&count, &member, &more));
    for (; more; n++) TRY(zip_next(&count, &member, &more));
    TRY(arena_alloc(&r->file->arena, r->ctx, n + 1, sizeof *r->entries, &r->entries));
    for (r->n_entries = 0; r->n_entries < n; r->n_entries++) {
        Entry *entry = &r->entries[r->n_entries];
        entry->bytes = NULL;
        TRY(zip_next(&r->zip, &entry->member, &more));
        if (!ends_with(&entry->member, "/data.pkl")) continue;
        size_t length = entry->member.name_size - (sizeof pickle_name - 1);
        if (length >= sizeof r->prefix || memchr(entry->member.name, 0, length)) continue;
        snprintf(r->prefix, sizeof r->prefix, "%.*s", (int)length, entry->member.name);
    }
    if (n) qsort(r->entries, n, sizeof *r->entries, compare_entries);
    if (r->prefix[0]) return KINDIT_OK;
    return context_fail(r->ctx, KINDIT_ERROR_FORMAT, "%s: not a file of torch.save: no data.pkl in it", r->file->path);
}

// NULL when there is no member of that name below the prefix.
static Entry *find_entry(const Reader *r, const char *folder, const char *name) {
    char whole[1400];
    int length = snprintf(whole, sizeof whole, "%s%s%s", r->prefix, folder, name);
    if (length < 0 || length >= (int)sizeof whole) return NULL;
    Entry key = {.member = {.name = whole, .name_size = (size_t)length}};
    return bsearch(&key, r->entries, r->n_entries, sizeof key, compare_entries);
}

static KinditStatus check_byte_order(const Reader *r) {
    const Entry *entry = find_entry(r, "", "byteorder"); // absent before PyTorch 2.1
    const uint8_t *bytes;
    uint8_t *owned;
    if (!entry) return KINDIT_OK;
    TRY(zip_read(&r->zip, &entry->member, &bytes, &owned));
    bool little = entry->member.size == 6 && memcmp(bytes, "little", 6) == 0;
    memory_free(&owned);
    return little ? KINDIT_OK
                  : context_fail(r->ctx, KINDIT_ERROR_UNSUPPORTED,
                                 "%s: not little-endian; save it again on such a machine", r->file->path);
}

static KinditStatus read_pickle(Reader *r, Pickle *out) {
    const Entry *entry = find_entry(r, "", pickle_name);
    const uint8_t *bytes;
    uint8_t *owned;
    TRY(zip_read(&r->zip, &entry->member, &bytes, &owned));
    KinditStatus status =
        pickle_parse(out, &r->file->arena, r->ctx, r->file->path, bytes, (size_t)entry->member.size, allowed_globals);
    memory_free(&owned);
    return status;
}

// ---- tensors -------------------------------------------------------------------------------------------------------

static KinditStatus tensor_fail(const Reader *r, const char *name, const char *what) {
    return context_fail(r->ctx, KINDIT_ERROR_FORMAT, "%s: \"%.95s\": %s", r->file->path, name, what);
}

// Item i of a call's arguments or of a tuple, if it is of that kind.
static const PickleValue *item_of(const PickleValue *value, size_t i, PickleKind kind) {
    return value && i < value->n && value->items[i]->kind == kind ? value->items[i] : NULL;
}

static bool is_call_of(const PickleValue *value, const char *global) {
    return value && value->kind == PICKLE_CALL && strcmp(value->items[0]->text, global) == 0;
}

// The bytes of a storage in an archive.
static KinditStatus read_member(const Reader *r, const char *name, Storage *storage) {
    Entry *entry = find_entry(r, "data/", storage->key);
    size_t n_bytes;
    uint8_t *owned;
    if (!entry) return tensor_fail(r, name, "its storage is not in the archive");
    if (entry->member.method != ZIP_STORED) return tensor_fail(r, name, "its storage is compressed: save it again");
    if (storage->numel < 0 || !memory_multiply((size_t)storage->numel, dtype_size(storage->dtype), &n_bytes) ||
        entry->member.size != n_bytes)
        return tensor_fail(r, name, "its storage has another size than the pickle says");
    if (!entry->bytes) TRY(zip_read(&r->zip, &entry->member, &entry->bytes, &owned));
    storage->bytes = entry->bytes;
    return KINDIT_OK;
}

// ('storage', torch.FloatStorage, '0', 'cpu', 12), in old files with a None behind it: all but the bytes.
static KinditStatus parse_storage(const Reader *r, const char *name, const PickleValue *persistent, Storage *out) {
    const PickleValue *id = item_of(persistent, 0, PICKLE_TUPLE);
    const PickleValue *type = item_of(id, 1, PICKLE_GLOBAL), *key = item_of(id, 2, PICKLE_STRING);
    const PickleValue *count = item_of(id, 4, PICKLE_INT);
    if (!type || !key || !count || (id->n > 5 && !item_of(id, 5, PICKLE_NONE)))
        return tensor_fail(r, name, "its storage is not described as torch.save does");
    for (size_t i = 0; i < sizeof storages / sizeof *storages; i++) {
        *out = (Storage){.key = key->text, .dtype = storages[i].dtype, .numel = count->integer};
        if (strcmp(storages[i].global, type->text) == 0) return KINDIT_OK;
    }
    return tensor_fail(r, name, "its storage has no type of numbers");
}

static int compare_storages(const void *a, const void *b) {
    return strcmp(((const Storage *)a)->key, ((const Storage *)b)->key);
}

static KinditStatus find_storage(const Reader *r, const char *name, const PickleValue *arguments, Storage *out) {
    TRY(parse_storage(r, name, item_of(arguments, 0, PICKLE_PERSISTENT), out));
    if (!r->old) return read_member(r, name, out);
    *out = *(const Storage *)bsearch(out, r->storages, r->n_storages, sizeof *out, compare_storages); // all are listed
    return out->bytes ? KINDIT_OK : tensor_fail(r, name, "its storage is not in the file");
}

// Row-major without gaps; sizes of 1 have any stride.
static bool is_contiguous(const Tensor *tensor, const PickleValue *strides) {
    int64_t expected = 1;
    if (strides->n != (size_t)tensor->n_dims) return false;
    for (int i = tensor->n_dims - 1; i >= 0; i--) {
        const PickleValue *stride = item_of(strides, (size_t)i, PICKLE_INT);
        if (!stride || (tensor->shape[i] != 1 && stride->integer != expected)) return false;
        expected *= tensor->shape[i];
    }
    return true;
}

static KinditStatus parse_shape(const Reader *r, Tensor *tensor, const PickleValue *sizes) {
    if (sizes->n > TENSOR_MAX_DIMS) return tensor_fail(r, tensor->name, "more than 8 dimensions");
    for (size_t i = 0; i < sizes->n; i++) {
        const PickleValue *size = item_of(sizes, i, PICKLE_INT);
        if (!size) return tensor_fail(r, tensor->name, "a size that is no integer");
        tensor->shape[tensor->n_dims++] = size->integer;
    }
    return tensor_measure(tensor, r->ctx, r->file->path);
}

// _rebuild_tensor_v2(storage, offset, sizes, strides, ...), maybe inside _rebuild_parameter(tensor, ...).
static KinditStatus parse_tensor(const Reader *r, Tensor *tensor, const PickleValue *call) {
    if (is_call_of(call, rebuild_parameter)) call = item_of(item_of(call, 1, PICKLE_TUPLE), 0, PICKLE_CALL);
    if (!is_call_of(call, rebuild_tensor)) return tensor_fail(r, tensor->name, "expected a tensor");
    const PickleValue *arguments = item_of(call, 1, PICKLE_TUPLE), *offset = item_of(arguments, 1, PICKLE_INT);
    const PickleValue *sizes = item_of(arguments, 2, PICKLE_TUPLE), *strides = item_of(arguments, 3, PICKLE_TUPLE);
    Storage storage;
    if (!offset || !sizes || !strides) return tensor_fail(r, tensor->name, "not described as torch.save does");
    TRY(find_storage(r, tensor->name, arguments, &storage));
    tensor->dtype = storage.dtype;
    TRY(parse_shape(r, tensor, sizes));
    if (tensor->n_elements == 0) return KINDIT_OK;
    if (!is_contiguous(tensor, strides))
        return tensor_fail(r, tensor->name, "not contiguous: save it again after .contiguous()");
    if (offset->integer < 0 || offset->integer > storage.numel ||
        tensor->n_elements > (size_t)storage.numel - (size_t)offset->integer)
        return tensor_fail(r, tensor->name, "reaches past the end of its storage");
    tensor->data = storage.bytes + (size_t)offset->integer * dtype_size(tensor->dtype);
    return KINDIT_OK;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(((const Tensor *)a)->name, ((const Tensor *)b)->name);
}

static KinditStatus parse_dict(Reader *r, const PickleValue *dict) {
    Safetensors *file = r->file;
    TRY(arena_alloc(&file->arena, r->ctx, dict->n / 2 + 1, sizeof *file->tensors, &file->tensors));
    for (size_t i = 0; i < dict->n; i += 2) {
        if (dict->items[i]->kind != PICKLE_STRING) return tensor_fail(r, "(key)", "expected a name");
        Tensor *tensor = &file->tensors[file->n_tensors];
        *tensor = (Tensor){.name = dict->items[i]->text};
        TRY(parse_tensor(r, tensor, dict->items[i + 1]));
        file->n_tensors++;
    }
    if (file->n_tensors) qsort(file->tensors, (size_t)file->n_tensors, sizeof *file->tensors, compare_names);
    for (int i = 1; i < file->n_tensors; i++)
        if (strcmp(file->tensors[i - 1].name, file->tensors[i].name) == 0)
            return tensor_fail(r, file->tensors[i].name, "is there twice");
    return KINDIT_OK;
}

// ---- files older than the archives ---------------------------------------------------------------------------------

// Every storage that the object names, once each, sorted by key.
static KinditStatus list_storages(Reader *r, const PickleValue *persistent) {
    TRY(arena_alloc(&r->file->arena, r->ctx, persistent->n + 1, sizeof *r->storages, &r->storages));
    for (size_t i = 0; i < persistent->n; i++)
        TRY(parse_storage(r, "(storage)", persistent->items[i], &r->storages[i]));
    if (persistent->n) qsort(r->storages, persistent->n, sizeof *r->storages, compare_storages);
    for (size_t i = 0; i < persistent->n; i++) {
        const Storage *last = r->n_storages ? &r->storages[r->n_storages - 1] : NULL, *next = &r->storages[i];
        const bool again = last && strcmp(last->key, next->key) == 0;
        if (again && (last->dtype != next->dtype || last->numel != next->numel))
            return tensor_fail(r, next->key, "a storage that is described in two ways");
        if (!again) r->storages[r->n_storages++] = *next;
    }
    return KINDIT_OK;
}

// The bytes lie one storage after the other, in the order of `keys`.
static KinditStatus place_storages(Reader *r, const PickleValue *keys, const uint8_t *data, size_t size) {
    for (size_t i = 0; i < keys->n; i++) {
        const PickleValue *text = item_of(keys, i, PICKLE_STRING);
        const Storage key = {.key = text ? text->text : ""};
        Storage *storage = bsearch(&key, r->storages, r->n_storages, sizeof key, compare_storages);
        int64_t numel;
        size_t n_bytes;
        if (!storage || storage->bytes)
            return tensor_fail(r, key.key, "a storage that no tensor has, or a second time");
        if (size < sizeof numel) return tensor_fail(r, key.key, "the file ends before this storage");
        memcpy(&numel, data, sizeof numel);
        if (numel < 0 || numel != storage->numel ||
            !memory_multiply((size_t)numel, dtype_size(storage->dtype), &n_bytes))
            return tensor_fail(r, key.key, "a storage of another size than the pickle says");
        if (n_bytes > size - sizeof numel) return tensor_fail(r, key.key, "the file ends within this storage");
        storage->bytes = data + sizeof numel;
        data += sizeof numel + n_bytes;
        size -= sizeof numel + n_bytes;
    }
    return KINDIT_OK;
}

static KinditStatus read_old(Reader *r, const uint8_t *data, size_t size, Pickle *out) {
    Pickle pickles[4]; // version, machine, object, keys
    size_t at = sizeof old_magic;
    for (int i = 0; i < 4; i++) {
        TRY(pickle_parse(&pickles[i], &r->file->arena, r->ctx, r->file->path, data + at, size - at, allowed_globals));
        at += pickles[i].size;
    }
    const PickleValue *little = pickle_get(pickles[1].root, "little_endian");
    if (!little || little->kind != PICKLE_BOOL || !little->integer)
        return context_fail(r->ctx, KINDIT_ERROR_UNSUPPORTED, "%s: not little-endian; save it again on such a machine",
                            r->file->path);
    if (pickles[0].root->kind != PICKLE_INT || pickles[0].root->integer != 1001 || pickles[3].root->kind != PICKLE_LIST)
        return context_fail(r->ctx, KINDIT_ERROR_FORMAT,
                            "%s: not a file of torch.save: no version 1001, or no storages", r->file->path);
    *out = pickles[2];
    TRY(list_storages(r, out->persistent));
    return place_storages(r, pickles[3].root, data + at, size - at);
}

// ---- the file ------------------------------------------------------------------------------------------------------

static KinditStatus choose_dict(const Reader *r, const PickleValue *root, const PickleValue **out) {
    static const char *const keys[] = {"ema", "model", "state_dict"};
    *out = root;
    if (root->kind != PICKLE_DICT)
        return context_fail(r->ctx, KINDIT_ERROR_FORMAT, "%s: expected a dictionary of tensors", r->file->path);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const PickleValue *inner = pickle_get(root, keys[i]);
        if (!inner || inner->kind != PICKLE_DICT) continue;
        *out = inner;
        return KINDIT_OK;
    }
    return KINDIT_OK;
}

static KinditStatus read_archive(Reader *r, const void *data, size_t size, Pickle *out) {
    TRY(zip_open(&r->zip, r->ctx, r->file->path, data, size));
    TRY(list_entries(r));
    TRY(check_byte_order(r));
    return read_pickle(r, out);
}

static KinditStatus read_file(Reader *r, const void *data, size_t size) {
    Pickle pickle;
    const PickleValue *dict;
    r->old = is_old(data, size);
    if (!r->old && !is_archive(data, size))
        return context_fail(r->ctx, KINDIT_ERROR_FORMAT, "%s: not a file of torch.save", r->file->path);
    TRY(r->old ? read_old(r, data, size, &pickle) : read_archive(r, data, size, &pickle));
    TRY(choose_dict(r, pickle.root, &dict));
    return parse_dict(r, dict);
}

KinditStatus torch_file_parse(Safetensors *out, KinditContext *ctx, const char *name, const void *data, size_t size) {
    *out = (Safetensors){0};
    TRY(file_path(out->path, ctx, "%s", name));
    Reader reader = {.ctx = ctx, .file = out};
    KinditStatus status = read_file(&reader, data, size);
    if (status) safetensors_close(out);
    return status;
}

bool torch_file_recognise(const void *data, size_t size) {
    return is_archive(data, size) || is_old(data, size);
}

KinditStatus torch_file_open(Safetensors *out, KinditContext *ctx, const char *path) {
    return safetensors_open_as(out, ctx, path, torch_file_parse);
}
