/* Durations, counted in buckets that are 1/64 (1.6 %) wide: constant memory, constant time, no sorting. */
#ifndef BENCHMARKS_HISTOGRAM_H
#define BENCHMARKS_HISTOGRAM_H

#include <stdint.h>

enum { FRACTION_BITS = 6, FRACTIONS = 1 << FRACTION_BITS, BUCKETS = (64 - FRACTION_BITS + 1) * FRACTIONS };

struct histogram {
    uint64_t counts[BUCKETS]; /* bucket -> durations seen in it */
    uint64_t total, largest;
};

/* Values below 64 have a bucket each; above, a bucket is the exponent and the six bits after the leading one. */
static inline unsigned bucket_of(uint64_t value) {
    if (value < FRACTIONS) return (unsigned)value;
    int exponent = 63 - __builtin_clzll(value);
    int shift = exponent - FRACTION_BITS;
    return (unsigned)(shift + 1) * FRACTIONS + (unsigned)((value >> shift) & (FRACTIONS - 1));
}

static inline uint64_t lower_bound_of(unsigned bucket) {
    if (bucket < FRACTIONS) return bucket;
    int shift = (int)(bucket / FRACTIONS) - 1;
    return ((uint64_t)FRACTIONS + bucket % FRACTIONS) << shift;
}

static inline void record(struct histogram *h, uint64_t value) {
    h->counts[bucket_of(value)]++;
    h->total++;
    if (value > h->largest) h->largest = value;
}

/* The value below which `share` (0..1) of the recorded ones lie; 0 if there are none. */
static inline uint64_t quantile(const struct histogram *h, double share) {
    uint64_t wanted = (uint64_t)(share * (double)h->total), seen = 0;
    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += h->counts[i];
        if (seen > wanted) return lower_bound_of(i);
    }
    return h->largest;
}

#endif
