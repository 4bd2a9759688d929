#include "formats/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Image image;
    if (image_parse(&image, NULL, "fuzz", data, size) != KINDIT_OK) return 0;
    if (image_convert(&image, NULL, 3, 128) == KINDIT_OK) image_convert(&image, NULL, 1, 0);
    image_close(&image);
    return 0;
}
