#include "engine/plain_gated.h"

#define REAL float
#define NAME(x) x##_f32
#include "engine/plain_gated.inc"
#undef REAL
#undef NAME

#define REAL double
#define NAME(x) x##_f64
#include "engine/plain_gated.inc"
