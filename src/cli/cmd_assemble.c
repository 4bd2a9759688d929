#include <stdio.h>

#include "cli/cli.h"
#include "cli/sweep.h"
#include "diffusion/sampler_memory.h"
#include "kind/assemble.h"

static struct {
    const char *classes, *output, *budget, *sweep, *data;
    int64_t n, type; // type 0: the best, else a StorageType + 1
    bool dry_run, force, json;
} settings = {.n = 4};

static const Option *assemble_options(int *n) {
    static const Option options[] = {
        {"--classes", NULL, OPTION_STRING, &settings.classes, "A,B", "classes wanted, most wanted first (default: all)",
         0, 0, NULL},
        {"--budget", NULL, OPTION_STRING, &settings.budget, "SPEC",
         "at most: bytes of weights (4MB, 3.5MiB), or any of bytes=4MB,params=1.2M,flops=3G,memory=16MB", 0, 0, NULL},
        {"--output", "-o", OPTION_STRING, &settings.output, "PATH",
         "model to write: a folder, or one file if the name ends in .safetensors", 0, 0, NULL},
        {"--type", NULL, OPTION_CHOICE, &settings.type, "best|" STORAGE_NAMES,
         "how to store the weights (default best: f32, within a budget what is best of f32, bf16 and int8)", 0, 0,
         NULL},
        {"--dry-run", NULL, OPTION_FLAG, &settings.dry_run, NULL, "show the plan, write nothing", 0, 0, NULL},
        {"--force", NULL, OPTION_FLAG, &settings.force, NULL, "replace what is there", 0, 0, NULL},
        {"--json", NULL, OPTION_FLAG, &settings.json, NULL, "print the plan as JSON", 0, 0, NULL},
        {"--sweep", NULL, OPTION_STRING, &settings.sweep, "DIR",
         "in place of one model: measure size against class accuracy, to DIR/sweep.csv and DIR/sweep.svg", 0, 0, NULL},
        {"--data", NULL, OPTION_STRING, &settings.data, "DIR", "with --sweep: the data set of real images", 0, 0, NULL},
        {"--n", "-n", OPTION_INT, &settings.n, "N", "with --sweep: samples of each class a point (default 4)", 1, 10000,
         NULL},
    };
    *n = sizeof options / sizeof *options;
    return options;
}

// ---- the plan, for people and for programs -------------------------------------------------------------------------

static void add_classes(cJSON *json, const char *key, const Model *parts, int first, int end) {
    cJSON *list = cJSON_AddArrayToObject(json, key);
    for (int c = first; c < end; c++) cJSON_AddItemToArray(list, cJSON_CreateString(parts->classes[c].id));
}

static cJSON *describe(const Assembly *assembly, const BudgetCost *limits, const BudgetPlan *plan, const char *source) {
    const Model *parts = assembly->parts;
    const Cut *cut = &plan->choice.cut;
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "source", source);
    if (!settings.dry_run) cJSON_AddStringToObject(json, "model", settings.output);
    cJSON_AddNumberToObject(json, "n_classes", cut->n_classes);
    cJSON_AddNumberToObject(json, "n_classes_asked", parts->dit->config.n_classes);
    cJSON_AddNumberToObject(json, "n_learngene", cut->n_learngene);
    cJSON_AddNumberToObject(json, "n_learngene_trained", parts->dit->config.n_learngene);
    cJSON_AddNumberToObject(json, "n_tailor", cut->n_tailor);
    cJSON_AddNumberToObject(json, "n_tailor_trained", parts->dit->config.n_tailor);
    cJSON_AddStringToObject(json, "type", storage_name(plan->choice.type));
    cJSON_AddNumberToObject(json, "loss", plan->loss);
    cJSON *cost = cJSON_AddObjectToObject(json, "cost"), *budget = cJSON_AddObjectToObject(json, "budget");
    for (int d = 0; d < BUDGET_DIMENSIONS; d++) {
        cJSON_AddNumberToObject(cost, budget_names[d], plan->cost.of[d]);
        if (limits->of[d] > 0) cJSON_AddNumberToObject(budget, budget_names[d], limits->of[d]);
    }
    add_classes(json, "classes", parts, 0, cut->n_classes);
    add_classes(json, "left_out", parts, cut->n_classes, parts->dit->config.n_classes);
    return json;
}

static void print_part(const char *name, int kept, int of, const char *what) {
    printf("%-18s %10d   of %d%s%s\n", name, kept, of, *what ? " " : "", what);
}

static void print_cost(const char *name, const BudgetCost *cost, const BudgetCost *limits, int d,
                       const char *format(char[32], double)) {
    char found[32], limit[32];
    printf("%-18s %10s", name, format(found, cost->of[d]));
    if (limits->of[d] > 0) printf("   of %s allowed", format(limit, limits->of[d]));
    putchar('\n');
}

static void print_table(const Assembly *assembly, const BudgetCost *limits, const BudgetPlan *plan) {
    const DitConfig *trained = &assembly->parts->dit->config;
    const Cut *cut = &plan->choice.cut;
    print_part("classes", cut->n_classes, trained->n_classes, "");
    print_part("learngene", cut->n_learngene, trained->n_learngene, "components");
    print_part("each tailor", cut->n_tailor, trained->n_tailor, "components");
    printf("%-18s %10s\n", "type", storage_name(plan->choice.type));
    print_cost("weights", &plan->cost, limits, BUDGET_BYTES, cli_format_bytes);
    print_cost("parameters", &plan->cost, limits, BUDGET_PARAMETERS, cli_format_count);
    print_cost("FLOPs of a pass", &plan->cost, limits, BUDGET_FLOPS, cli_format_count);
    print_cost("memory to draw", &plan->cost, limits, BUDGET_MEMORY, cli_format_bytes);
    printf("%-18s %8.2f %%   of the energy of learngene and tailors\n", "lost", 100 * plan->loss);
    if (cut->n_classes == trained->n_classes) return;
    printf("left out:");
    for (int c = cut->n_classes; c < trained->n_classes; c++) printf(" %s", assembly->parts->classes[c].id);
    putchar('\n');
}

// ---- the command ---------------------------------------------------------------------------------------------------

static KinditStatus choose(const Assembly *assembly, const BudgetCost *limits, BudgetPlan *plan) {
    const StorageType one = (StorageType)(settings.type - 1);
    return settings.type ? assembly_plan(assembly, limits, &one, 1, plan)
                         : assembly_plan(assembly, limits, assembly_types, ASSEMBLY_TYPES, plan);
}

// Of the type asked for, or of all there are: what a budget would not choose is worth seeing here.
static KinditStatus sweep(const Assembly *assembly) {
    static const StorageType all[STORAGE_TYPES] = {STORAGE_F32, STORAGE_BF16, STORAGE_INT8, STORAGE_INT4};
    SweepSettings sweeping = {.folder = settings.sweep, .data = settings.data, .n_per_class = (int)settings.n};
    sweeping.types = settings.type ? all + settings.type - 1 : all;
    sweeping.n_types = settings.type ? 1 : STORAGE_TYPES;
    return sweep_run(assembly, &sweeping);
}

static KinditStatus run(const Assembly *assembly, const BudgetCost *limits, const char *source) {
    BudgetPlan plan;
    TRY(choose(assembly, limits, &plan));
    if (!settings.json) print_table(assembly, limits, &plan);
    fflush(stdout); // the plan comes before the work
    if (!settings.dry_run) TRY(assembly_write(assembly, &plan.choice, settings.output, settings.force));
    if (!settings.json && !settings.dry_run) printf("model: %s\n", settings.output);
    if (!settings.json) return KINDIT_OK;
    return cli_print_json(describe(assembly, limits, &plan, source)) == EXIT_DONE ? KINDIT_OK : KINDIT_ERROR_MEMORY;
}

static int assemble_run(KinditContext *ctx, int n_positional, char **positional) {
    (void)n_positional;
    if (settings.sweep && (!settings.data || settings.output || settings.budget || settings.dry_run))
        return cli_usage("assemble", "--sweep goes with --data DIR, and without -o, --budget and --dry-run");
    if (!settings.output && !settings.dry_run && !settings.sweep)
        return cli_usage("assemble", "-o PATH is missing; --dry-run shows the plan alone");
    Assembly assembly;
    Engine *engine;
    BudgetCost limits = {0};
    KinditStatus status = settings.budget ? budget_parse(ctx, settings.budget, &limits) : KINDIT_OK;
    if (!status) status = engine_create(&engine, ctx);
    if (status) return cli_report(ctx, status);
    const int threads = engine_threads(engine);
    status = assembly_open(&assembly, ctx, engine, positional[0], settings.classes,
                           (AssemblyMemory){sampler_memory_of_one, &threads});
    if (!status) {
        status = settings.sweep ? sweep(&assembly) : run(&assembly, &limits, positional[0]);
        assembly_close(&assembly);
    }
    engine_close(&engine);
    return cli_report(ctx, status);
}

const Command command_assemble = {
    .name = "assemble",
    .summary = "put a model together from a learngene and the tailors of some classes, within a budget",
    .arguments = "SOURCE (-o PATH | --dry-run | --sweep DIR) [options]",
    .examples = "kindit assemble parts --classes A,B,C -o abc.safetensors\n"
                "kindit assemble parts --budget 1.5MB -o small.safetensors\n"
                "kindit assemble parts --type int8 -o int8.safetensors\n"
                "kindit assemble parts --classes K,i,n,d --budget params=1.1M,memory=16MB --dry-run --json\n"
                "kindit assemble models/letters.safetensors --sweep curve --data data/glyphs",
    .notes =
        "SOURCE is a decomposed folder or a whole model. Within a budget the best model that fits is composed: which "
        "classes (the most wanted first), how many components of the learngene and of each tailor (the weakest go), "
        "and which type of weights; src/kind/budget.h defines what is best. bytes: of the weights written; flops: of "
        "one pass of one image; memory: to draw one image with guidance, the weights included.",
    .min_positional = 1,
    .max_positional = 1,
    .options = assemble_options,
    .run = assemble_run,
};
