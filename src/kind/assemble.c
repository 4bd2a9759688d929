// Putting parts together: the learngene is always in, tailors follow in the order asked for while the budget lasts. All
// tailors of a model are of one size, so what fits is a quotient.
#include <ctype.h>
#include <string.h>

#include "kind/decompose.h"
#include "model/model_params_file.h"
#include "model/model_source.h"

// ---- plan ----------------------------------------------------------------------------------------------------------

typedef struct Sizes {
    int64_t learngene, tailor; // parameters
    int64_t learngene_bytes, tailor_bytes;
} Sizes;

static KinditStatus measure(Sizes *out, KinditContext *ctx, const ModelSource *source, const int *chosen, int n_chosen,
                            StorageType type) {
    DitConfig config = source->dit_config;
    config.n_classes = n_chosen;
    Dit *dit;
    TRY(dit_create(&dit, ctx, &config));
    KinditStatus status = model_source_check(source, ctx, dit, chosen, n_chosen); // the files bound what follows
    *out = (Sizes){.learngene = (int64_t)model_params_count(&dit->layout, MODEL_PART_SHARED, 0),
                   .tailor = (int64_t)model_params_count(&dit->layout, MODEL_PART_TAILOR, 0),
                   .learngene_bytes = (int64_t)model_params_bytes(&dit->layout, MODEL_PART_SHARED, 0, type),
                   .tailor_bytes = (int64_t)model_params_bytes(&dit->layout, MODEL_PART_TAILOR, 0, type)};
    dit_close(&dit);
    return status;
}

// How many of `n` tailors fit beside the learngene in a budget of `limit`; n when there is no limit, -1 when not even
// it.
static int count_fitting(int64_t limit, int64_t learngene, int64_t tailor, int n) {
    if (limit == 0) return n;
    if (limit < learngene) return -1;
    int64_t fit = (limit - learngene) / tailor;
    return fit < n ? (int)fit : n;
}

// What was chosen and why; `is_bytes`: which budget was the tighter one.
static void describe(AssemblePlan *plan, const Sizes *sizes, const AssembleBudget *budget, bool is_bytes) {
    size_t n = (size_t)snprintf(plan->text, sizeof plan->text, "learngene %lld bytes + %d x tailor %lld = %lld bytes",
                                (long long)plan->learngene_bytes, plan->n_classes, (long long)plan->tailor_bytes,
                                (long long)plan->bytes);
    if (plan->n_left_out == 0) return;
    int64_t limit = is_bytes ? budget->bytes : budget->parameters;
    int64_t next = is_bytes ? plan->bytes + plan->tailor_bytes : plan->parameters + sizes->tailor;
    snprintf(plan->text + n, sizeof plan->text - n,
             "; %d left out: one tailor more would make it %lld, the budget is %lld %s", plan->n_left_out,
             (long long)next, (long long)limit, is_bytes ? "bytes" : "parameters");
}

static KinditStatus choose_fitting(AssemblePlan *plan, KinditContext *ctx, const char *source, const Sizes *sizes,
                                   const AssembleBudget *budget, int n_asked) {
    plan->learngene_bytes = sizes->learngene_bytes;
    plan->tailor_bytes = sizes->tailor_bytes;
    int by_bytes = count_fitting(budget->bytes, plan->learngene_bytes, plan->tailor_bytes, n_asked);
    int by_parameters = count_fitting(budget->parameters, sizes->learngene, sizes->tailor, n_asked);
    bool is_bytes = by_bytes <= by_parameters;
    plan->n_classes = is_bytes ? by_bytes : by_parameters;
    if (plan->n_classes < 0)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "%s: the learngene alone takes %lld bytes (%lld parameters), the budget is %lld %s", source,
                            (long long)plan->learngene_bytes, (long long)sizes->learngene,
                            (long long)(is_bytes ? budget->bytes : budget->parameters),
                            is_bytes ? "bytes" : "parameters");
    plan->n_left_out = n_asked - plan->n_classes;
    plan->parameters = sizes->learngene + plan->n_classes * sizes->tailor;
    plan->bytes = plan->learngene_bytes + plan->n_classes * plan->tailor_bytes;
    describe(plan, sizes, budget, is_bytes);
    return KINDIT_OK;
}

KinditStatus assemble_plan(AssemblePlan *out, KinditContext *ctx, const char *source, const char *classes,
                           const AssembleBudget *budget, StorageType type) {
    *out = (AssemblePlan){0};
    ModelSource model;
    Sizes sizes;
    int n_asked;
    TRY(model_source_open(&model, ctx, source));
    KinditStatus status = KINDIT_OK;
    if (!model.dit_config.factored)
        status = context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                              "%s: a dense model has no learngene and no tailors to assemble", source);
    if (!status) status = model_source_choose(&model, ctx, classes, &out->classes, &n_asked);
    if (!status) status = measure(&sizes, ctx, &model, out->classes, n_asked, type);
    if (!status) status = choose_fitting(out, ctx, source, &sizes, budget, n_asked);
    model_source_close(&model);
    if (status) assemble_plan_close(out);
    return status;
}

void assemble_plan_close(AssemblePlan *plan) {
    memory_free(&plan->classes);
    *plan = (AssemblePlan){0};
}

// ---- write ---------------------------------------------------------------------------------------------------------

KinditStatus assemble_write(KinditContext *ctx, Engine *engine, const char *source, const AssemblePlan *plan,
                            const char *path, StorageType type, bool overwrite) {
    ModelSource parts;
    Model *model = NULL;
    TRY(model_source_open(&parts, ctx, source));
    KinditStatus status = KINDIT_OK;
    for (int i = 0; i < plan->n_classes && !status; i++)
        if (plan->classes[i] >= parts.dit_config.n_classes)
            status =
                context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: changed since the plan was made: plan again", source);
    if (!status) status = model_source_load(&model, ctx, engine, &parts, plan->classes, plan->n_classes);
    model_source_close(&parts);
    if (!status) status = model_write(model, path, type, overwrite);
    model_close(&model);
    return status;
}

// ---- sizes ---------------------------------------------------------------------------------------------------------

// The factor of "", "k", "M", "G", "Ki", "Mi", "Gi", each with or without "B"; 0 for anything else.
static double unit_factor(const char *unit) {
    static const char prefixes[] = "kmg";
    const char *prefix = *unit ? strchr(prefixes, tolower((unsigned char)*unit)) : NULL;
    double factor = 1;
    if (prefix) {
        bool binary = tolower((unsigned char)unit[1]) == 'i';
        for (const char *p = prefixes; p <= prefix; p++) factor *= binary ? 1024 : 1000;
        unit += binary ? 2 : 1;
    }
    unit += tolower((unsigned char)*unit) == 'b';
    return *unit == '\0' ? factor : 0;
}

KinditStatus assemble_parse_size(KinditContext *ctx, const char *text, int64_t *out) {
    double digits = 0, scale = 1; // digits / scale: exact where a running sum of tenths would not be
    size_t whole = strspn(text, "0123456789");
    size_t fraction = whole > 0 && text[whole] == '.' ? 1 + strspn(text + whole + 1, "0123456789") : 0;
    for (size_t i = 0; i < whole + fraction; i++) {
        if (i == whole) continue; // the point
        digits = digits * 10 + (text[i] - '0');
        if (i > whole) scale *= 10;
    }
    double bytes = digits * unit_factor(text + whole + fraction) / scale;
    if (whole == 0 || !(bytes >= 1 && bytes <= 0x1p53))
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "\"%.40s\": expected a size of at least 1 byte such as 4MB, 3.5MiB, 500k or 123456", text);
    *out = (int64_t)bytes;
    return KINDIT_OK;
}
