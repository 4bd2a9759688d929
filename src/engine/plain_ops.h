// Plain twins of the kernels outside the matrix products: loops that read like the equations, in float (plain_..._f32)
// and in double (plain_..._f64). Tests and the bench hold the engine to them; nothing else uses them. Arguments are
// those of the engine's call in engine.h, in `real` instead of float; see plain_ops.inc.
#ifndef ENGINE_PLAIN_OPS_H
#define ENGINE_PLAIN_OPS_H

#include <math.h>

#include "engine/engine.h"

#define real float
#define PLAIN(name) plain_##name##_f32
#include "engine/plain_ops.inc"
#undef real
#undef PLAIN

#define real double
#define PLAIN(name) plain_##name##_f64
#include "engine/plain_ops.inc"
#undef real
#undef PLAIN

#endif
