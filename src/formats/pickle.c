#include "formats/pickle.h"

#include <string.h>

static const char ordered_dict[] = "collections OrderedDict";

typedef struct Machine {
    KinditContext *ctx;
    Arena *arena;
    const char *name;
    const uint8_t *data;
    size_t size, at;
    const char *const *globals;
    PickleValue stack, memo; // used as lists
    PickleValue *persistent;
} Machine;

// ---- values --------------------------------------------------------------------------------------------------------

static KinditStatus fail(const Machine *m, const char *what) {
    return context_fail(m->ctx, KINDIT_ERROR_FORMAT, "%s: not a sound pickle: %s before byte %zu", m->name, what,
                        m->at);
}

// Outgrown arrays stay in the arena: at most as much again.
static KinditStatus append(Machine *m, PickleValue *list, PickleValue *item) {
    if (list->n == list->capacity) {
        PickleValue **larger;
        size_t capacity = list->capacity ? 2 * list->capacity : 4;
        TRY(arena_alloc(m->arena, m->ctx, capacity, sizeof *larger, &larger));
        if (list->n) memcpy(larger, list->items, list->n * sizeof *larger);
        list->items = larger;
        list->capacity = capacity;
    }
    list->items[list->n++] = item;
    return KINDIT_OK;
}

static KinditStatus push_new(Machine *m, PickleKind kind, PickleValue **out) {
    TRY(arena_alloc(m->arena, m->ctx, 1, sizeof **out, out));
    **out = (PickleValue){.kind = kind};
    return append(m, &m->stack, *out);
}

static KinditStatus push_integer(Machine *m, PickleKind kind, int64_t integer) {
    PickleValue *value;
    TRY(push_new(m, kind, &value));
    value->integer = integer;
    return KINDIT_OK;
}

static KinditStatus pop(Machine *m, PickleValue **out) {
    if (m->stack.n == 0) return fail(m, "nothing left on the stack");
    *out = m->stack.items[--m->stack.n];
    return KINDIT_OK;
}

// The value on top, which must be of `kind`.
static KinditStatus top(const Machine *m, PickleKind kind, PickleValue **out) {
    *out = m->stack.n ? m->stack.items[m->stack.n - 1] : NULL;
    return *out && (*out)->kind == kind ? KINDIT_OK : fail(m, "the wrong kind of value on the stack");
}

// ---- what opcodes carry --------------------------------------------------------------------------------------------

static KinditStatus take(Machine *m, size_t n, const uint8_t **out) {
    if (n > m->size - m->at) return fail(m, "the end of the data");
    *out = m->data + m->at;
    m->at += n;
    return KINDIT_OK;
}

// A little-endian number of n <= 8 bytes.
static KinditStatus take_number(Machine *m, size_t n, uint64_t *out) {
    const uint8_t *bytes = NULL;
    *out = 0;
    TRY(take(m, n, &bytes));
    for (size_t i = n; i-- > 0;) *out = *out << 8 | bytes[i];
    return KINDIT_OK;
}

// The same in two's complement.
static KinditStatus push_signed(Machine *m, size_t n) {
    uint64_t value;
    if (n > sizeof value) return fail(m, "an integer of more than 64 bits");
    TRY(take_number(m, n, &value));
    if (n && n < sizeof value && value >> (8 * n - 1)) value |= UINT64_MAX << (8 * n);
    return push_integer(m, PICKLE_INT, (int64_t)value);
}

static KinditStatus push_text(Machine *m, PickleKind kind, const uint8_t *bytes, size_t n) {
    PickleValue *value;
    char *text;
    if (n && memchr(bytes, 0, n)) return fail(m, "a string with a NUL");
    TRY(push_new(m, kind, &value));
    TRY(arena_alloc(m->arena, m->ctx, n + 1, 1, &text));
    if (n) memcpy(text, bytes, n);
    text[n] = '\0';
    value->text = text;
    return KINDIT_OK;
}

static KinditStatus push_string(Machine *m) {
    uint64_t n;
    const uint8_t *bytes = NULL;
    TRY(take_number(m, 4, &n));
    TRY(take(m, (size_t)n, &bytes));
    return push_text(m, PICKLE_STRING, bytes, (size_t)n);
}

// "module\nname\n" becomes "module name", if that is allowed.
static KinditStatus push_global(Machine *m) {
    char name[128] = "";
    size_t length = 0;
    for (int lines = 0; lines < 2;) {
        const uint8_t *byte = NULL;
        TRY(take(m, 1, &byte));
        if (length + 1 == sizeof name) return fail(m, "a global with an endless name");
        name[length++] = *byte == '\n' ? ' ' : *byte < 0x20 || *byte >= 0x7f ? '?' : (char)*byte;
        lines += *byte == '\n';
    }
    name[length - 1] = '\0';
    for (const char *const *allowed = m->globals; *allowed; allowed++)
        if (strcmp(*allowed, name) == 0) return push_text(m, PICKLE_GLOBAL, (const uint8_t *)name, length - 1);
    return context_fail(m->ctx, KINDIT_ERROR_FORMAT,
                        "%s: the pickle names \"%s\", which no file of tensors needs: refused (nothing was executed)",
                        m->name, name);
}

// ---- groups --------------------------------------------------------------------------------------------------------

// Moves what lies above the last mark, or the `n` values on top, into a new tuple.
static KinditStatus gather(Machine *m, size_t first, size_t mark) {
    PickleValue *tuple;
    size_t end = m->stack.n;
    TRY(arena_alloc(m->arena, m->ctx, 1, sizeof *tuple, &tuple));
    *tuple = (PickleValue){.kind = PICKLE_TUPLE};
    for (size_t i = first; i < end; i++) TRY(append(m, tuple, m->stack.items[i]));
    m->stack.n = mark;
    return append(m, &m->stack, tuple);
}

static KinditStatus gather_marked(Machine *m) {
    size_t mark = m->stack.n;
    while (mark > 0 && m->stack.items[mark - 1]->kind != PICKLE_MARK) mark--;
    return mark ? gather(m, mark, mark - 1) : fail(m, "no mark on the stack");
}

static KinditStatus gather_counted(Machine *m, size_t n) {
    if (m->stack.n < n) return fail(m, "nothing left on the stack");
    return gather(m, m->stack.n - n, m->stack.n - n);
}

// The tuple on top goes into the list or dictionary below it.
static KinditStatus extend(Machine *m, PickleKind kind) {
    PickleValue *items = NULL, *into = NULL;
    TRY(pop(m, &items));
    TRY(top(m, kind, &into));
    if (kind == PICKLE_DICT && items->n % 2) return fail(m, "a key without a value");
    for (size_t i = 0; i < items->n; i++) TRY(append(m, into, items->items[i]));
    return KINDIT_OK;
}

// callable, arguments -> a call.
static KinditStatus reduce(Machine *m) {
    PickleValue *arguments, *callable, *value;
    TRY(top(m, PICKLE_TUPLE, &arguments));
    m->stack.n--;
    TRY(top(m, PICKLE_GLOBAL, &callable));
    m->stack.n--;
    bool is_dict = strcmp(callable->text, ordered_dict) == 0 && arguments->n == 0;
    TRY(push_new(m, is_dict ? PICKLE_DICT : PICKLE_CALL, &value));
    if (is_dict) return KINDIT_OK;
    TRY(append(m, value, callable));
    return append(m, value, arguments);
}

static KinditStatus persist(Machine *m) {
    PickleValue *id = NULL, *value;
    TRY(pop(m, &id));
    TRY(push_new(m, PICKLE_PERSISTENT, &value));
    TRY(append(m, value, id));
    return append(m, m->persistent, value);
}

// Picklers number what they remember 0, 1, 2, ...
static KinditStatus remember(Machine *m, size_t index_size) {
    uint64_t index;
    TRY(take_number(m, index_size, &index));
    if (m->stack.n == 0 || index > m->memo.n) return fail(m, "a memo out of order");
    PickleValue *value = m->stack.items[m->stack.n - 1];
    if (index == m->memo.n) return append(m, &m->memo, value);
    m->memo.items[index] = value;
    return KINDIT_OK;
}

static KinditStatus recall(Machine *m, size_t index_size) {
    uint64_t index;
    TRY(take_number(m, index_size, &index));
    return index < m->memo.n ? append(m, &m->stack, m->memo.items[index]) : fail(m, "a memo that was never set");
}

// ---- the machine ---------------------------------------------------------------------------------------------------

static KinditStatus push_scalar(Machine *m, uint8_t opcode) {
    PickleValue *value;
    const uint8_t *bytes = NULL;
    uint64_t number;
    switch (opcode) {
    case 'N': return push_new(m, PICKLE_NONE, &value);
    case 0x88: // NEWTRUE
    case 0x89: return push_integer(m, PICKLE_BOOL, opcode == 0x88);
    case 'J': return push_signed(m, 4); // BININT
    case 'K':                           // BININT1
    case 'M':                           // BININT2
        TRY(take_number(m, opcode == 'K' ? 1 : 2, &number));
        return push_integer(m, PICKLE_INT, (int64_t)number);
    case 0x8a: // LONG1
        TRY(take_number(m, 1, &number));
        return push_signed(m, (size_t)number);
    case 'G': // BINFLOAT
        TRY(take(m, 8, &bytes));
        return push_new(m, PICKLE_FLOAT, &value);
    case 'X': return push_string(m); // BINUNICODE
    case 'c': return push_global(m);
    case 'Q': return persist(m); // BINPERSID
    default:
        return context_fail(m->ctx, KINDIT_ERROR_UNSUPPORTED,
                            "%s: pickle opcode 0x%02x at byte %zu, which no file that torch.save makes of tensors has",
                            m->name, opcode, m->at - 1);
    }
}

static KinditStatus execute(Machine *m, uint8_t opcode) {
    PickleValue *value;
    switch (opcode) {
    case '(': return push_new(m, PICKLE_MARK, &value);
    case ')': return push_new(m, PICKLE_TUPLE, &value);
    case ']': return push_new(m, PICKLE_LIST, &value);
    case '}': return push_new(m, PICKLE_DICT, &value);
    case 't': return gather_marked(m);
    case 0x85: // TUPLE1, TUPLE2, TUPLE3
    case 0x86:
    case 0x87: return gather_counted(m, opcode - 0x84u);
    case 'a': // APPEND
        TRY(gather_counted(m, 1));
        return extend(m, PICKLE_LIST);
    case 'e': // APPENDS
        TRY(gather_marked(m));
        return extend(m, PICKLE_LIST);
    case 's': // SETITEM
        TRY(gather_counted(m, 2));
        return extend(m, PICKLE_DICT);
    case 'u': // SETITEMS
        TRY(gather_marked(m));
        return extend(m, PICKLE_DICT);
    case 'R':  // REDUCE
    case 0x81: // NEWOBJ
        return reduce(m);
    case 'b': return pop(m, &value); // BUILD
    case 'q': return remember(m, 1);
    case 'r': return remember(m, 4);
    case 'h': return recall(m, 1);
    case 'j': return recall(m, 4);
    default: return push_scalar(m, opcode);
    }
}

KinditStatus pickle_parse(Pickle *out, Arena *arena, KinditContext *ctx, const char *name, const void *data,
                          size_t size, const char *const *globals) {
    Machine m = {.ctx = ctx, .arena = arena, .name = name, .data = data, .size = size, .globals = globals};
    const uint8_t *opcode = NULL, *protocol;
    *out = (Pickle){0};
    TRY(arena_alloc(arena, ctx, 1, sizeof *m.persistent, &m.persistent));
    *m.persistent = (PickleValue){.kind = PICKLE_LIST};
    if (size < 2 || m.data[0] != 0x80 || m.data[1] != 2)
        return context_fail(ctx, KINDIT_ERROR_UNSUPPORTED,
                            "%s: expected a pickle of protocol 2, as torch.save writes by default", name);
    TRY(take(&m, 2, &protocol));
    TRY(take(&m, 1, &opcode));
    while (*opcode != '.') {
        TRY(execute(&m, *opcode));
        TRY(take(&m, 1, &opcode));
    }
    *out = (Pickle){.persistent = m.persistent, .size = m.at};
    return pop(&m, &out->root);
}

const PickleValue *pickle_get(const PickleValue *dict, const char *key) {
    for (size_t i = dict->kind == PICKLE_DICT ? dict->n : 0; i > 0; i -= 2) { // of a key set twice the last counts
        const PickleValue *name = dict->items[i - 2];
        if (name->kind == PICKLE_STRING && strcmp(name->text, key) == 0) return dict->items[i - 1];
    }
    return NULL;
}
