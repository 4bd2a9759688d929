// A classifier of `kindit eval train-features` as a network among the others: features are the mean token after the
// final norm, logits its head's. Its layers are not visited: tests compare the model itself (model/classifier.h).
#include "model/classifier.h"
#include "vision/networks.h"

enum { BATCH = 64 };

static bool native_recognise(const Safetensors *file) {
    return safetensors_metadata(file, "kindit") && safetensors_find(file, "head.weight") &&
           safetensors_find(file, "y_embedder.embedding_table.weight");
}

static void native_close(VisionNetwork *network) {
    Classifier *classifier = network->state;
    if (classifier) classifier_close(classifier);
    memory_free(&network->state);
}

static KinditStatus native_open(VisionNetwork *network, const Safetensors *file) {
    Classifier *classifier;
    TRY(memory_alloc(network->ctx, 1, sizeof *classifier, &network->state));
    classifier = network->state;
    TRY(classifier_open(classifier, network->ctx, network->engine, file->path, BATCH));
    const DitConfig *config = &classifier->model->dit->config;
    network->info = (VisionInfo){.name = "native",
                                 .channels = config->channels,
                                 .input_size = config->image_size,
                                 .n_features = config->width,
                                 .n_logits = config->n_classes,
                                 .profile = PROFILE_NATIVE};
    return KINDIT_OK;
}

static KinditStatus native_run(VisionNetwork *network, const float *images, int n, const VisionOutput *out) {
    classifier_run(network->state, images, n, out->features, out->logits);
    return KINDIT_OK;
}

const VisionKind vision_native = {
    .name = "native", .recognise = native_recognise, .open = native_open, .run = native_run, .close = native_close};
