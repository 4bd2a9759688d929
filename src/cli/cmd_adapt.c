#include <stdio.h>

#include "adapt/adapt.h"
#include "adapt/adapt_count.h"
#include "cli/progress.h"
#include "cli/train_options.h"
#include "data/task_list.h"
#include "model/model_source.h"

static struct {
    AdaptSettings adapt;
    const char *preset, *tasks;
    int64_t n_tailor, n_learngene, rank, blocks, cayley_terms, keep_blocks;
    bool dry_run;
} settings;

static const Option *adapt_options(int *n) {
    enum { MOST_OPTIONS = 48 };
    static const Option own[] = {
        {"--method", NULL, OPTION_STRING, &settings.adapt.method, "NAME",
         "how to adapt: kind, full, lora, ...; `kindit help adapt` lists them below", 0, 0, NULL},
        {"--tailors-from", NULL, OPTION_STRING, &settings.adapt.tailors_from, "A,B",
         "new tailors start as copies of those of these classes, in turn (default: fresh)", 0, 0, NULL},
        {"--n-tailor", NULL, OPTION_INT, &settings.n_tailor, "N",
         "components of each new tailor (default: the base's; with --preset width / 256)", 1, 4096, NULL},
        {"--rank", NULL, OPTION_INT, &settings.rank, "R",
         "of LoRA, PiSSA, DoRA, LoHa and the ablations (default: as many components as new tailors would have)", 1,
         65536, NULL},
        {"--alpha", NULL, OPTION_DOUBLE, &settings.adapt.adapter.alpha, "X",
         "LoRA and its kin scale their product by X / R (default: R)", 1e-6, 1e6, NULL},
        {"--blocks", NULL, OPTION_INT, &settings.blocks, "N",
         "OFT's rotations of each matrix (default: so that it trains as much as LoRA)", 1, 65536, NULL},
        {"--cayley-terms", NULL, OPTION_INT, &settings.cayley_terms, "N",
         "OFT's rotations by N terms of Neumann's series, as peft has them with 5 (default 0: exact)", 0, 64, NULL},
        {"--n-learngene", NULL, OPTION_INT, &settings.n_learngene, "N",
         "of svd-lora: singular vectors that are kept (default: the usual share of the width)", 1, 65536, NULL},
        {"--keep-blocks", NULL, OPTION_INT, &settings.keep_blocks, "N",
         "heur-lg, auto-lg, laptop: blocks of MODEL that the new one starts with (default: half of them)", 1, 256,
         NULL},
        {"--budget", NULL, OPTION_INT, &settings.adapt.budget, "N",
         "laptop, in place of --keep-blocks: parameters of the new model at most", 1, 1e15, NULL},
        {"--pseudo-steps", NULL, OPTION_INT, &settings.adapt.pseudo_steps, "N",
         "auto-lg: steps of the fresh model that MODEL's blocks are held against (default 500)", 1, 1e12, NULL},
        {"--dry-run", NULL, OPTION_FLAG, &settings.dry_run, NULL,
         "count what each task of --tasks would train and compute, and train nothing", 0, 0, NULL},
        {"--preset", NULL, OPTION_STRING, &settings.preset, "NAME",
         "with --dry-run, in place of MODEL: DiT-B/2 and the like, in the paper's proportions", 0, 0, NULL},
        {"--tasks", NULL, OPTION_STRING, &settings.tasks, "FILE",
         "with --dry-run: a table of tab-separated columns, task and wnid (the class) among them", 0, 0, NULL},
    };
    static Option options[MOST_OPTIONS];
    int n_train;
    const Option *train = train_options(&n_train);
    *n = cli_join_options(options, own, sizeof own / sizeof *own, train, n_train);
    return options;
}

// ---- counting ------------------------------------------------------------------------------------------------------

// The structure to adapt: MODEL's, or the preset's with a learngene where the method needs one.
static KinditStatus find_base(DitConfig *out, KinditContext *ctx, const AdaptMethod *method) {
    if (settings.preset) {
        *out = dit_config_default();
        TRY(dit_config_preset(out, ctx, settings.preset));
        out->factored = !(method->bases & ADAPT_DENSE);
        if (out->factored) dit_config_usual_factors(out);
        return KINDIT_OK;
    }
    ModelSource source;
    TRY(model_source_open(&source, ctx, settings.adapt.base));
    *out = source.dit_config;
    model_source_close(&source);
    return adapt_check_base(ctx, method, out, &settings.adapt);
}

static void add_count(cJSON *json, double n_classes, double trainable_params, double flops_per_image) {
    cJSON_AddNumberToObject(json, "n_classes", n_classes);
    cJSON_AddNumberToObject(json, "trainable_params", trainable_params);
    cJSON_AddNumberToObject(json, "flops_per_image", flops_per_image);
}

static KinditStatus count_tasks(cJSON *json, KinditContext *ctx, const AdaptMethod *method, const DitConfig *base,
                                const TaskList *list) {
    double n_classes = 0, trainable_params = 0, flops_per_image = 0;
    cJSON *array = cJSON_AddArrayToObject(json, "tasks");
    for (int i = 0; i < list->n; i++) {
        const Task *task = &list->tasks[i];
        AdaptCount count;
        TRY(adapt_count(&count, ctx, method, base, &settings.adapt, task->n_classes));
        cJSON *row = cJSON_CreateObject();
        cJSON_AddStringToObject(row, "task", task->name);
        add_count(row, task->n_classes, (double)count.trainable_params, count.flops_per_image);
        cJSON_AddItemToArray(array, row);
        n_classes += task->n_classes;
        trainable_params += (double)count.trainable_params;
        flops_per_image += count.flops_per_image;
    }
    add_count(cJSON_AddObjectToObject(json, "mean"), n_classes / list->n, trainable_params / list->n,
              flops_per_image / list->n);
    return KINDIT_OK;
}

static void print_count(const char *task, const cJSON *row) {
    char params[32], flops[32];
    printf("%-16.32s %8.4g %12s %12s\n", task, cJSON_GetObjectItem(row, "n_classes")->valuedouble,
           cli_format_count(params, cJSON_GetObjectItem(row, "trainable_params")->valuedouble),
           cli_format_count(flops, cJSON_GetObjectItem(row, "flops_per_image")->valuedouble));
}

static int print_counts(cJSON *json) {
    if (train_options_place().json) return cli_print_json(json);
    const cJSON *row;
    printf("%-16s %8s %12s %12s\n", "task", "classes", "trainable", "FLOPs/image");
    cJSON_ArrayForEach(row, cJSON_GetObjectItem(json, "tasks"))
        print_count(cJSON_GetObjectItem(row, "task")->valuestring, row);
    print_count("mean", cJSON_GetObjectItem(json, "mean"));
    cJSON_Delete(json);
    return EXIT_DONE;
}

static int dry_run(KinditContext *ctx) {
    const AdaptMethod *method;
    DitConfig base;
    TaskList list = {0};
    if (!settings.tasks || !settings.preset == !settings.adapt.base)
        return cli_usage("adapt", "--dry-run goes with --tasks FILE and either MODEL or --preset NAME");
    cJSON *json = cJSON_CreateObject();
    KinditStatus status = adapt_method_find(&method, ctx, settings.adapt.method);
    if (!status) status = find_base(&base, ctx, method);
    if (!status) status = task_list_read(&list, ctx, settings.tasks);
    if (!status) {
        if (settings.n_tailor && base.factored) base.n_tailor = (int)settings.n_tailor;
        settings.adapt.n_tailor = 0; // the base has it
        cJSON_AddStringToObject(json, "method", method->name);
        cJSON_AddStringToObject(json, "model", settings.preset ? settings.preset : settings.adapt.base);
        status = count_tasks(json, ctx, method, &base, &list);
    }
    task_list_close(&list);
    if (!status) return print_counts(json);
    cJSON_Delete(json);
    return cli_report(ctx, status);
}

// ---- training ------------------------------------------------------------------------------------------------------

static KinditStatus make_plan(AdaptPlan *plan, KinditContext *ctx) {
    const TrainPlace place = train_options_place();
    if (!place.resume) return adapt_plan_new(plan, ctx, &settings.adapt, place.data);
    TRY(adapt_plan_resumed(plan, ctx, &settings.adapt, place.run));
    return train_options_data(ctx, plan->data);
}

static int adapt_run_command(KinditContext *ctx, int n_positional, char **positional) {
    const TrainPlace place = train_options_place();
    AdaptPlan plan = {0};
    TrainResult result = {0};
    Engine *engine = NULL;
    settings.adapt.base = n_positional ? positional[0] : NULL;
    settings.adapt.n_tailor = (int)settings.n_tailor;
    settings.adapt.n_learngene = (int)settings.n_learngene;
    settings.adapt.adapter.rank = (int)settings.rank;
    settings.adapt.adapter.blocks = (int)settings.blocks;
    settings.adapt.adapter.cayley_terms = (int)settings.cayley_terms;
    settings.adapt.keep_blocks = (int)settings.keep_blocks;
    if (!settings.adapt.method && !place.resume) return cli_usage("adapt", "--method NAME is missing");
    if (settings.dry_run) return dry_run(ctx);
    const int usage = train_options_check("adapt");
    if (usage != EXIT_DONE) return usage;
    if (!settings.adapt.base && !place.resume) return cli_usage("adapt", "MODEL, which to adapt, is missing");
    KinditStatus status = make_plan(&plan, ctx);
    if (!status) status = engine_create(&engine, ctx);
    if (!status) {
        train_options_apply(&plan.train);
        progress_limit(plan.train.max_seconds);
        status = adapt_run(ctx, engine, &plan, place.run, place.resume, &result);
    }
    adapt_plan_close(&plan);
    engine_close(&engine);
    return status ? cli_report(ctx, status) : train_options_report(&result);
}

const Command command_adapt = {
    .name = "adapt",
    .summary = "fine-tune a model on the classes of another data set, by one of several methods",
    .arguments = "MODEL --method NAME --data DIR -o RUN [options]",
    .examples =
        "kindit adapt models/letters.safetensors --method kind --data data/lower --batch 64 --ema 0.999"
        " --steps 2000 -o runs/lower\n"
        "kindit adapt models/letters.safetensors --method kind --tailors-from O,Q --data data/lower"
        " --batch 64 --ema 0.999 --steps 500 -o runs/round\n"
        "kindit adapt dense --method lora --rank 8 --data data/lower --batch 64 --ema 0.999 --steps 2000 -o runs/lora\n"
        "kindit adapt dense --method laptop --keep-blocks 3 --data data/lower --batch 64 --steps 2000 -o runs/small\n"
        "kindit adapt --resume --steps 4000 -o runs/lower\n"
        "kindit adapt --dry-run --preset DiT-B/2 --method kind --tasks tests/golden/adapt/tasks.tsv --json",
    .notes =
        "All that the model has starts as it is there; its classes do not: tailors and label rows are fresh. With "
        "kind the learngene and all that is shared stay frozen, so that the new tailors fit any folder with the same "
        "learngene: `kindit decompose RUN --into DIR` puts them beside those that are there. The run folder is as "
        "`kindit pretrain` leaves it, and a run resumed gives the same weights, bit for bit, as one never "
        "interrupted.\n"
        "Methods, of a model with a learngene: kind, full; kind-nogate and learngene-lora (the paper's ablations). Of "
        "a dense one: full; lora, pissa, dora, loha, oft, svdiff, which ride on its frozen matrices; svd-lora "
        "(ablation). The "
        "label rows train with each. `kindit merge` makes a plain dense model of what they leave.\n"
        "heur-lg, auto-lg and laptop start with some of a dense model's blocks, which run.json then lists: "
        "the last ones; those that a model briefly trained on the new data also comes to; those whose absence "
        "changes the output most. Laptop's model has no others, and the whole one, which must be there to the "
        "end, teaches it. Label rows of classes that MODEL knows by id are kept.\n"
        "--dry-run counts as the paper's Table 2 does: the tailors of all classes of a task open at once.",
    .max_positional = 1,
    .options = adapt_options,
    .run = adapt_run_command,
};
