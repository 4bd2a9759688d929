// What torch.save writes, read as a flat set of named tensors. Nothing in it is executed: see pickle.h.
//   since PyTorch 1.6  a zip archive of one pickle, <name>/data.pkl, and the bytes of each storage, <name>/data/<key>
//   before             five pickles one after the other (a magic number, a version, the machine, the object, the keys
//   of the
//                      storages), then of each storage the number of its elements (8 bytes) and their bytes
#ifndef FORMATS_TORCH_FILE_H
#define FORMATS_TORCH_FILE_H

#include "formats/safetensors.h"

// Opens the tensors of the dictionary that the file is or has under "ema", else "model", else "state_dict" (a training
// checkpoint keeps averaged weights in "ema"). The result is what safetensors_open gives, sorted by name and without
// metadata, so that whatever reads the one reads the other; closed with safetensors_close. Tensors must be contiguous,
// inside their storage, little-endian, and F32, BF16, F16, F64, I64, I32 or U8; storages of an archive lie uncompressed
// and have their CRC-32. What is in the chosen dictionary but is no tensor is refused by name.
KinditStatus torch_file_open(Safetensors *out, KinditContext *ctx, const char *path);
bool torch_file_recognise(const void *data, size_t size); // by the first bytes
// The same over bytes in memory (not copied, must outlive *out); `name` stands for the path in messages.
KinditStatus torch_file_parse(Safetensors *out, KinditContext *ctx, const char *name, const void *data, size_t size);

#endif
