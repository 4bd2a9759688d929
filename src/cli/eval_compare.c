#include "cli/eval_compare.h"

#include <stdio.h>
#include <string.h>

#include "cli/progress.h"
#include "cli/sample_options.h"

typedef struct Comparison {
    KinditContext *ctx;
    const EvalCompare *settings;
    Looker looker;
    Side samples, reference;
    EvaluateRequest request;
    Evaluation result;
    Evaluation *classes; // [samples.n_classes] with --per-class; n_samples 0: not measured
} Comparison;

static void close_comparison(Comparison *comparison) {
    side_close(&comparison->samples);
    side_close(&comparison->reference);
    looker_close(&comparison->looker);
    memory_free(&comparison->classes);
}

// ---- what was asked for --------------------------------------------------------------------------------------------

// "fid,sfid,..." as a set of Metric; 0: not given.
static KinditStatus parse_metrics(unsigned *out, KinditContext *ctx, const char *text) {
    static const struct {
        const char *name;
        Metric metric;
    } names[] = {{"fid", METRIC_FRECHET},     {"fdd", METRIC_FRECHET}, {"fd", METRIC_FRECHET},
                 {"sfid", METRIC_SPATIAL},    {"is", METRIC_SCORE},    {"pr", METRIC_PRECISION_RECALL},
                 {"prob", METRIC_PROBABILITY}};
    enum { N_NAMES = sizeof names / sizeof *names };
    *out = 0;
    while (text && *text) {
        const size_t length = strcspn(text, ",");
        size_t i = 0;
        while (i < N_NAMES && (strlen(names[i].name) != length || memcmp(names[i].name, text, length) != 0)) i++;
        if (i == N_NAMES)
            return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "--metrics '%.*s': expected fid, sfid, is, pr or prob",
                                (int)length, text);
        *out |= (unsigned)names[i].metric;
        text += length + (text[length] == ',');
    }
    return KINDIT_OK;
}

// --data and --reference: a split of the one, or what the other names. No reference at all leaves what needs none.
static KinditStatus open_reference(Comparison *comparison) {
    const char *name = comparison->settings->reference;
    const bool heldout = name && strcmp(name, "heldout") == 0;
    const bool is_split = !name || heldout || strcmp(name, "train") == 0;
    if (is_split && !comparison->settings->data && name)
        return context_fail(comparison->ctx, KINDIT_ERROR_ARGUMENT,
                            "--reference %s is a split of --data DIR, which is missing", name);
    if (is_split && !comparison->settings->data) return KINDIT_OK;
    return side_open_reference(&comparison->reference, &comparison->looker,
                               is_split ? comparison->settings->data : name, heldout ? SOURCE_HELDOUT : SOURCE_TRAIN);
}

// What would fail after hours of drawing fails before.
static KinditStatus check_sides(const Comparison *comparison) {
    const Side *reference = &comparison->reference;
    if (!comparison->samples.model && sample_options_given())
        return context_fail(comparison->ctx, KINDIT_ERROR_ARGUMENT,
                            "%s: these images are drawn already; the options of drawing go with a model",
                            comparison->samples.path);
    if (comparison->settings->per_class && (comparison->samples.n_classes == 0 || reference->n_classes == 0))
        return context_fail(comparison->ctx, KINDIT_ERROR_ARGUMENT,
                            "--per-class needs classes on both sides: the samples have %d, the reference %d",
                            comparison->samples.n_classes, reference->n_classes);
    return KINDIT_OK;
}

static KinditStatus plan_request(Comparison *comparison) {
    unsigned wanted;
    TRY(parse_metrics(&wanted, comparison->ctx, comparison->settings->metrics));
    comparison->request = side_request(&comparison->looker, &comparison->samples, &comparison->reference);
    if (wanted) comparison->request.metrics = wanted;
    if (!comparison->request.metrics)
        return context_fail(comparison->ctx, KINDIT_ERROR_ARGUMENT,
                            "%s does not classify, so that nothing can be measured without a reference: give --data "
                            "DIR or --reference PATH",
                            vision_info(comparison->looker.network)->name);
    return evaluate_check(comparison->ctx, &comparison->request);
}

// ---- measuring -----------------------------------------------------------------------------------------------------

static int find_class(const Side *side, const char *id) {
    for (int c = 0; c < side->n_classes; c++)
        if (strcmp(side->classes[c].id, id) == 0) return c;
    return -1;
}

// The images of one class, in `order` (room for all).
static EvaluatePart part_of_class(const Side *side, int class, int64_t *order) {
    EvaluatePart part = {.set = side->set, .order = order};
    for (int64_t i = 0; i < side->n; i++)
        if (feature_set_label(side->set, i) == class) order[part.n++] = i;
    return part;
}

static KinditStatus measure_class(Comparison *comparison, int class, int64_t *orders[2]) {
    EvaluateRequest request = comparison->request;
    const int of_reference = find_class(&comparison->reference, comparison->samples.classes[class].id);
    request.samples = part_of_class(&comparison->samples, class, orders[0]);
    request.reference = part_of_class(&comparison->reference, of_reference, orders[1]);
    const int64_t fewer = request.samples.n < request.reference.n ? request.samples.n : request.reference.n;
    if (request.samples.n == 0) return KINDIT_OK;
    if (fewer < 2) request.metrics &= ~(unsigned)(METRIC_FRECHET | METRIC_SPATIAL);
    if (fewer <= request.neighbours.k) request.metrics &= ~(unsigned)METRIC_PRECISION_RECALL;
    if (request.samples.n < request.splits.n) request.metrics &= ~(unsigned)METRIC_SCORE;
    KinditStatus status = evaluate(&comparison->classes[class], comparison->ctx, comparison->looker.engine, &request);
    return status ? context_prefix(comparison->ctx, status, comparison->samples.classes[class].id) : KINDIT_OK;
}

// One bar for all classes: those of each are left out.
static KinditStatus measure_classes(Comparison *comparison) {
    KinditContext *ctx = comparison->ctx;
    const KinditContextSettings own = ctx->settings;
    const int n = comparison->samples.n_classes;
    int64_t *orders[2] = {NULL, NULL};
    KinditStatus status = memory_alloc(ctx, (size_t)n, sizeof *comparison->classes, &comparison->classes);
    if (!status) status = memory_alloc(ctx, (size_t)comparison->samples.n, sizeof(int64_t), &orders[0]);
    if (!status) status = memory_alloc(ctx, (size_t)comparison->reference.n, sizeof(int64_t), &orders[1]);
    for (int c = 0; c < n && !status; c++) {
        ctx->settings.progress = NULL;
        status = measure_class(comparison, c, orders);
        ctx->settings = own;
        KinditProgress progress = {.task = "classes", .done = c + 1, .total = n, .text = ""};
        context_progress(ctx, &progress);
    }
    memory_free(&orders[0]);
    memory_free(&orders[1]);
    return status;
}

// ---- results -------------------------------------------------------------------------------------------------------

static void print_side(const char *name, const Side *side) {
    if (side->path) printf("%-10s %s (%s)\n", name, side->path, side->what);
}

static void print_classes(const Comparison *comparison, const VisionInfo *info) {
    EvalFigure all[EVAL_FIGURES], own[EVAL_FIGURES];
    const int n = eval_figures(&comparison->result, info, all);
    bool missing = false;
    printf("\n%-16s %7s", "class", "images");
    for (int i = 0; i < n; i++) printf(" %12s", all[i].key);
    putchar('\n');
    for (int c = 0; c < comparison->samples.n_classes; c++) {
        const Evaluation *result = &comparison->classes[c];
        const int n_own = eval_figures(result, info, own);
        if (!result->n_samples) continue;
        printf("%-16s %7lld", comparison->samples.classes[c].name, (long long)result->n_samples);
        for (int i = 0; i < n; i++) {
            int at = 0;
            while (at < n_own && strcmp(own[at].key, all[i].key) != 0) at++;
            if (at < n_own)
                printf(" %12.5g", own[at].value);
            else
                printf(" %12s", "-");
            missing |= at == n_own;
        }
        putchar('\n');
    }
    if (missing) puts("-: the class has too few samples or reference images for the figure, or none");
}

static int print_table(const Comparison *comparison) {
    const VisionInfo *info = vision_info(comparison->looker.network);
    const EvaluateRequest *request = &comparison->request;
    EvalFigure figures[EVAL_FIGURES];
    char limits[EVALUATE_LIMITS][EVALUATE_LIMIT_SIZE];
    const int n = eval_figures(&comparison->result, info, figures);
    const int n_limits = evaluate_limits(&comparison->result, limits);
    print_side("samples", &comparison->samples);
    print_side("reference", &comparison->reference);
    printf("%-10s %s, %d features, sha256 %.16s\n", "network", info->name, info->n_features, info->sha256);
    printf("%-10s %s (", "profile", profile_name(comparison->looker.profile));
    printf(request->splits.n ? "%lld parts" : "parts of %lld",
           (long long)(request->splits.n ? request->splits.n : request->splits.size));
    printf(" for the Inception Score; k %d, %s)\n\n", request->neighbours.k, request->neighbours.strict ? "<" : "<=");
    for (int i = 0; i < n; i++) printf("%-20s %.6g\n", figures[i].label, figures[i].value);
    if (comparison->classes) print_classes(comparison, info);
    for (int i = 0; i < n_limits; i++) {
        fputs(i ? "" : "\n", stdout);
        cli_print_wrapped(limits[i], 2, 100);
        putchar('\n');
    }
    return EXIT_DONE;
}

static void add_figures(cJSON *json, const Evaluation *result, const VisionInfo *info) {
    EvalFigure figures[EVAL_FIGURES];
    const int n = eval_figures(result, info, figures);
    for (int i = 0; i < n; i++) cJSON_AddNumberToObject(json, figures[i].key, figures[i].value);
}

static int print_json(const Comparison *comparison, cJSON *json) {
    const VisionInfo *info = vision_info(comparison->looker.network);
    char limits[EVALUATE_LIMITS][EVALUATE_LIMIT_SIZE];
    const int n_limits = evaluate_limits(&comparison->result, limits);
    add_figures(json, &comparison->result, info);
    cJSON *list = cJSON_AddArrayToObject(json, "limits");
    for (int i = 0; i < n_limits; i++) cJSON_AddItemToArray(list, cJSON_CreateString(limits[i]));
    if (!comparison->classes) return cli_print_json(json);
    cJSON *classes = cJSON_AddArrayToObject(json, "classes");
    for (int c = 0; c < comparison->samples.n_classes; c++) {
        if (!comparison->classes[c].n_samples) continue;
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "id", comparison->samples.classes[c].id);
        cJSON_AddNumberToObject(item, "n", (double)comparison->classes[c].n_samples);
        cJSON_AddNumberToObject(item, "n_reference", (double)comparison->classes[c].n_reference);
        add_figures(item, &comparison->classes[c], info);
        cJSON_AddItemToArray(classes, item);
    }
    return cli_print_json(json);
}

static KinditStatus append_csv(const Comparison *comparison, const cJSON *recipe) {
    EvalFigure figures[EVAL_FIGURES];
    if (!comparison->settings->csv) return KINDIT_OK;
    const int n = eval_figures(&comparison->result, vision_info(comparison->looker.network), figures);
    return eval_csv_append(comparison->ctx, comparison->settings->csv, recipe, figures, n);
}

static KinditStatus compare(Comparison *comparison, const char *samples) {
    const KinditSampleSettings drawing = sample_options_settings();
    TRY(eval_open_looker(&comparison->looker, comparison->ctx));
    TRY(side_open(&comparison->samples, &comparison->looker, samples, &drawing, (SourceSplit)eval_settings.split,
                  eval_settings.n));
    TRY(open_reference(comparison));
    TRY(check_sides(comparison));
    TRY(plan_request(comparison));
    if (comparison->reference.path) TRY(side_extract(&comparison->reference, &comparison->looker, "reference"));
    TRY(side_extract(&comparison->samples, &comparison->looker, "samples"));
    TRY(evaluate(&comparison->result, comparison->ctx, comparison->looker.engine, &comparison->request));
    return comparison->settings->per_class ? measure_classes(comparison) : KINDIT_OK;
}

int eval_compare(KinditContext *ctx, const char *samples, const EvalCompare *settings) {
    Comparison comparison = {.ctx = ctx, .settings = settings};
    cJSON *recipe = NULL;
    KinditStatus status = compare(&comparison, samples);
    if (!status) recipe = eval_recipe(&comparison.looker, &comparison.samples, &comparison.reference);
    if (!status) status = append_csv(&comparison, recipe);
    progress_finish();
    int code = status ? cli_report(ctx, status) : EXIT_DONE;
    if (!status) code = eval_settings.json ? print_json(&comparison, recipe) : print_table(&comparison);
    if (status || !eval_settings.json) cJSON_Delete(recipe);
    close_comparison(&comparison);
    return code;
}
