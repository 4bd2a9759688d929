#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "data/import.h"

static struct {
    const char *output, *classes, *merge, *charset, *names;
    int64_t size, channels, seed;
    double heldout;
    bool strict, drop_empty, channels_given;
} settings;

static const Option *data_options(int *n) {
    static const Option options[] = {
        {"--output", "-o", OPTION_STRING, &settings.output, "DIR", "the data-set folder to make (required)", 0, 0,
         NULL},
        {"--size", NULL, OPTION_INT, &settings.size, "N", "side of the images in pixels (default 32)", 1, 1024, NULL},
        {"--channels", NULL, OPTION_INT, &settings.channels, "N", "1 grey, 3 RGB (default 1; folder: 3)", 1, 3,
         &settings.channels_given},
        {"--classes", NULL, OPTION_STRING, &settings.classes, "A,B",
         "ids or names of the classes to keep (default: all)", 0, 0, NULL},
        {"--merge", NULL, OPTION_STRING, &settings.merge, "TSV",
         "merge classes: lines superclass <tab> member, or a header naming these columns (and name)", 0, 0, NULL},
        {"--heldout", NULL, OPTION_DOUBLE, &settings.heldout, "X",
         "share held out; by font family for glyphs, unused when idx has a test part (default 0.1)", 0, 0.9, NULL},
        {"--seed", NULL, OPTION_INT, &settings.seed, "N", "which samples are held out (default 0)", 0, 9e15, NULL},
        {"--strict", NULL, OPTION_FLAG, &settings.strict, NULL,
         "stop at a file that cannot be read (default: count and skip)", 0, 0, NULL},
        {"--drop-empty", NULL, OPTION_FLAG, &settings.drop_empty, NULL, "leave out classes without a training sample",
         0, 0, NULL},
        {"--charset", NULL, OPTION_STRING, &settings.charset, "SET",
         "glyphs: the characters, with ranges (default A-Za-z0-9)", 0, 0, NULL},
        {"--names", NULL, OPTION_STRING, &settings.names, "A,B",
         "idx: names of labels 0, 1, ... (default: the numbers)", 0, 0, NULL},
    };
    ImportSettings defaults = import_settings_default();
    settings.size = defaults.size;
    settings.channels = defaults.channels;
    settings.heldout = defaults.heldout;
    *n = sizeof options / sizeof *options;
    return options;
}

// FOLDER/NAME or FOLDER/NAME.gz, whichever is there.
static KinditStatus find_idx(char out[1024], KinditContext *ctx, const char *folder, const char *name) {
    TRY(file_path(out, ctx, "%s/%s", folder, name));
    if (file_exists(out)) return KINDIT_OK;
    TRY(file_path(out, ctx, "%s/%s.gz", folder, name));
    if (file_exists(out)) return KINDIT_OK;
    return context_fail(ctx, KINDIT_ERROR_IO, "%s: holds neither %s nor %s.gz", folder, name, name);
}

static KinditStatus import_idx_folder(KinditContext *ctx, const ImportSettings *import, const char *folder) {
    static const char *const names[4] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
                                         "t10k-labels-idx1-ubyte"};
    char paths[4][1024];
    for (int i = 0; i < 4; i++) TRY(find_idx(paths[i], ctx, folder, names[i]));
    return import_idx(ctx, import, paths[0], paths[1], paths[2], paths[3], settings.names);
}

static int run_idx(KinditContext *ctx, const ImportSettings *import, int n, char **source) {
    if (n == 1) return cli_report(ctx, import_idx_folder(ctx, import, source[0]));
    if (n != 2 && n != 4)
        return cli_usage("data", "idx needs a folder, or IMAGES LABELS, or IMAGES LABELS TEST_IMAGES TEST_LABELS");
    return cli_report(ctx, import_idx(ctx, import, source[0], source[1], n == 4 ? source[2] : NULL,
                                      n == 4 ? source[3] : NULL, settings.names));
}

static int data_run(KinditContext *ctx, int n_positional, char **positional) {
    const char *kind = positional[0];
    char **source = positional + 1;
    int n = n_positional - 1;
    bool is_folder = strcmp(kind, "folder") == 0;
    if (!settings.output) return cli_usage("data", "-o DIR is missing");
    if (settings.charset && strcmp(kind, "glyphs") != 0) return cli_usage("data", "--charset is for glyphs alone");
    if (settings.names && strcmp(kind, "idx") != 0) return cli_usage("data", "--names is for idx alone");
    ImportSettings import = {
        .output = settings.output,
        .classes = settings.classes,
        .merge = settings.merge,
        .size = (int)settings.size,
        .channels = is_folder && !settings.channels_given ? 3 : (int)settings.channels,
        .strict = settings.strict,
        .drop_empty = settings.drop_empty,
        .heldout = settings.heldout,
        .seed = (uint64_t)settings.seed,
    };
    if (strcmp(kind, "glyphs") == 0) {
        if (n > 1) return cli_usage("data", "glyphs takes one folder of fonts");
        return cli_report(ctx, import_glyphs(ctx, &import, n == 1 ? source[0] : NULL, settings.charset));
    }
    if (strcmp(kind, "idx") == 0) return run_idx(ctx, &import, n, source);
    if (!is_folder) return cli_usage("data", "'%s': expected glyphs, idx or folder", kind);
    if (n != 1) return cli_usage("data", "folder needs one folder of class folders");
    return cli_report(ctx, import_folder(ctx, &import, source[0]));
}

const Command command_data = {
    .name = "data",
    .summary = "make a data set from fonts, IDX files or folders of images",
    .arguments = "glyphs [FONTS] | idx FOLDER | idx IMAGES LABELS [TEST_IMAGES TEST_LABELS] | folder FOLDER",
    .examples = "kindit data glyphs -o data/glyphs\n"
                "kindit data glyphs /usr/share/fonts/truetype --charset A-Z0-9 --size 32 -o data/capitals\n"
                "kindit data idx /usr/share/datasets/fashion-mnist --names "
                "T-shirt,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Boot -o data/fashion\n"
                "kindit data folder photos/ --size 64 --heldout 0.05 --drop-empty -o data/photos\n"
                "kindit data folder imagenet/train --merge superclasses.tsv --size 256 -o data/imagenet",
    .notes =
        "glyphs draws every character of the set in every usable font face below FONTS (default /usr/share/fonts) and "
        "holds out whole font families. idx reads the MNIST family, plain or gzip-compressed; FOLDER has the four "
        "files "
        "under their usual names. folder reads PNG, JPEG and WebP at any depth below one folder a class. DIR must not "
        "exist yet, or be empty; it appears only when complete.",
    .min_positional = 1,
    .max_positional = 5,
    .options = data_options,
    .run = data_run,
};
