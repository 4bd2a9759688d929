// Logits of a classifier to probabilities, in double.
#ifndef METRICS_SOFTMAX_H
#define METRICS_SOFTMAX_H

#include <math.h>
#include <stdbool.h>

// log_p [k] = logits - log of the sum of their exponentials; false when a logit is not finite.
static inline bool softmax_log(int k, const float *logits, double *log_p) {
    double largest = -INFINITY, sum = 0;
    for (int i = 0; i < k; i++) {
        if (!isfinite(logits[i])) return false;
        if (logits[i] > largest) largest = logits[i];
    }
    for (int i = 0; i < k; i++) sum += exp(logits[i] - largest);
    for (int i = 0; i < k; i++) log_p[i] = logits[i] - largest - log(sum);
    return true;
}

#endif
