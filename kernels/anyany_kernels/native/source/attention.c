/* Attention of one row over the keys of its two ranges, 64 at a time with a running softmax (Milakov and Gimelshein
   2018, arXiv 1805.02867), so that no more of the scores is kept. */
#include "attention.h"

#include "lanes.h"
#include "native.h"

#define KEYS 64
#define WIDE (4 * LANES)

INLINE lanes numbers_at(const void *from, int64_t index, const int kind) {
    return kind == FLOAT32 ? lanes_load((const float *)from + index) : lanes_load_bf16((const uint16_t *)from + index);
}

INLINE float number_at(const void *from, int64_t index, const int kind) {
    return kind == FLOAT32 ? ((const float *)from)[index] : from_bf16(((const uint16_t *)from)[index]);
}

INLINE void score(const Pages *pages, const float *query, int64_t first, int64_t count, float *scores, const int kind) {
    int64_t width = pages->width, whole = width / LANES * LANES;
    for (int64_t key = 0; key < count; key++) {
        int64_t row = (first + key) * pages->stride;
        lanes sum = lanes_all(0.0f);
        for (int64_t i = 0; i < whole; i += LANES)
            sum = lanes_fma(lanes_load(query + i), numbers_at(pages->keys, row + i, kind), sum);
        float score = lanes_sum(sum);
        for (int64_t i = whole; i < width; i++)
            score = MULTIPLY_ADD(query[i], number_at(pages->keys, row + i, kind), score);
        scores[key] = score;
    }
}

INLINE void add_values(const Pages *pages, const float *weights, int64_t first, int64_t count, float shrink, float *out,
                       const int kind) {
    int64_t width = pages->width, start = first * pages->stride, i = 0;
    for (; i + WIDE <= width; i += WIDE) {
        lanes sums[4];
        for (int part = 0; part < 4; part++)
            sums[part] = lanes_multiply(lanes_load(out + i + part * LANES), lanes_all(shrink));
        for (int64_t key = 0; key < count; key++)
            for (int part = 0; part < 4; part++) {
                lanes value = numbers_at(pages->values, start + key * pages->stride + i + part * LANES, kind);
                sums[part] = lanes_fma(lanes_all(weights[key]), value, sums[part]);
            }
        for (int part = 0; part < 4; part++) lanes_store(out + i + part * LANES, sums[part]);
    }
    for (; i < width; i++) {
        float sum = out[i] * shrink;
        for (int64_t key = 0; key < count; key++)
            sum = MULTIPLY_ADD(weights[key], number_at(pages->values, start + key * pages->stride + i, kind), sum);
        out[i] = sum;
    }
}

/* What a softmax over the keys so far holds: the largest score, and the sum of the others relative to it. */
typedef struct {
    float largest, sum;
} Running;

INLINE void take_in(const Pages *pages, const float *query, int64_t first, int64_t count, Running *running, float *out,
                    const int kind) {
    float scores[KEYS];
    score(pages, query, first, count, scores, kind);
    float largest = running->largest;
    for (int64_t key = 0; key < count; key++) largest = scores[key] > largest ? scores[key] : largest;
    for (int64_t key = count; key < KEYS; key++) scores[key] = largest - 100.0f; /* as good as none */
    lanes sum = lanes_all(0.0f);
    for (int64_t key = 0; key < KEYS; key += LANES) {
        lanes weights = lanes_exp(lanes_add(lanes_load(scores + key), lanes_all(-largest)));
        lanes_store(scores + key, weights);
        sum = lanes_add(sum, weights);
    }
    float shrink = running->sum == 0.0f ? 0.0f : expf(running->largest - largest);
    add_values(pages, scores, first, count, shrink, out, kind);
    *running = (Running){largest, running->sum * shrink + lanes_sum(sum)};
}

INLINE void attend_kind(const Pages *pages, const float *queries, int64_t count, const int64_t ranges[2][2], float *out,
                        const int kind) {
    Running running[MOST_GROUP];
    int64_t width = pages->width;
    for (int64_t head = 0; head < count; head++) running[head] = (Running){-INFINITY, 0.0f};
    memset(out, 0, (size_t)(count * width) * sizeof(float));
    for (int range = 0; range < 2; range++)
        for (int64_t first = ranges[range][0]; first < ranges[range][1]; first += KEYS) {
            int64_t left = ranges[range][1] - first;
            for (int64_t head = 0; head < count; head++)
                take_in(pages, queries + head * width, first, left < KEYS ? left : KEYS, running + head,
                        out + head * width, kind);
        }
    for (int64_t head = 0; head < count; head++)
        for (int64_t i = 0; i < width; i++)
            if (running[head].sum != 0.0f) out[head * width + i] /= running[head].sum;
}

void attend(const Pages *pages, const float *queries, int64_t count, const int64_t ranges[2][2], float *out) {
    if (pages->kind == FLOAT32) attend_kind(pages, queries, count, ranges, out, FLOAT32);
    else attend_kind(pages, queries, count, ranges, out, BFLOAT16);
}
