#include "rows.h"

#include "lanes.h"
#include "matrix.h"

static float sum_of_squares(const float *x, int64_t width, float mean) {
    lanes sum = lanes_all(0.0f);
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES) {
        lanes apart = lanes_add(lanes_load(x + i), lanes_all(-mean));
        sum = lanes_fma(apart, apart, sum);
    }
    float rest = lanes_sum(sum);
    for (; i < width; i++) rest = MULTIPLY_ADD(x[i] - mean, x[i] - mean, rest);
    return rest;
}

void normalise(const Norm *norm, const float *x, int64_t width, float *out) {
    double total = 0.0;
    if (norm->kind == LAYER_NORM)
        for (int64_t i = 0; i < width; i++) total += x[i];
    float mean = (float)(total / (double)width);
    float inverse = 1.0f / sqrtf(sum_of_squares(x, width, mean) / (float)width + norm->eps);
    for (int64_t i = 0; i < width; i++) out[i] = (x[i] - mean) * inverse;
    if (norm->weight.data != NULL)
        for (int64_t i = 0; i < width; i++) out[i] *= at(norm->weight, i);
    if (norm->bias.data != NULL)
        for (int64_t i = 0; i < width; i++) out[i] += at(norm->bias, i);
}

void turn_head(float *head, int64_t width, const float *cos, const float *sin) {
    int64_t half = width / 2;
    for (int64_t i = 0; i < half; i++) {
        float a = head[i], b = head[half + i];
        head[i] = a * cos[i] - b * sin[i];
        head[half + i] = b * cos[i] + a * sin[i];
    }
}

/* 1 / (1 + exp(-x)): what SiLU and, by way of tanh, the fast form of GELU are made of. */
INLINE lanes sigmoid(lanes x) {
    lanes one = lanes_all(1.0f);
    return lanes_divide(one, lanes_add(one, lanes_exp(lanes_multiply(x, lanes_all(-1.0f)))));
}

INLINE lanes activated(int32_t ff, lanes x, lanes up) {
    if (ff == SWIGLU) return lanes_multiply(lanes_multiply(x, sigmoid(x)), up);
    /* x / 2 * (1 + tanh(z)) is x * sigmoid(2 z) */
    lanes cube = lanes_multiply(lanes_multiply(x, x), x);
    lanes z = lanes_multiply(lanes_fma(cube, lanes_all(0.044715f), x), lanes_all(2.0f * 0.7978845608f));
    return lanes_multiply(x, sigmoid(z));
}

void activate(int32_t ff, const float *gate, const float *up, int64_t count, float *out) {
    const float *x = ff == SWIGLU ? gate : up;
    if (ff == GELU_EXACT) {
        for (int64_t i = 0; i < count; i++) out[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678f));
        return;
    }
    int64_t whole = count / LANES * LANES;
    for (int64_t i = 0; i < whole; i += LANES)
        lanes_store(out + i, activated(ff, lanes_load(x + i), lanes_load(up + i)));
    if (whole == count) return;
    float last[2][16] = {{0}}; /* the last few, so that every number takes the same way */
    memcpy(last[0], x + whole, (size_t)(count - whole) * sizeof(float));
    memcpy(last[1], up + whole, (size_t)(count - whole) * sizeof(float));
    lanes_store(last[0], activated(ff, lanes_load(last[0]), lanes_load(last[1])));
    memcpy(out + whole, last[0], (size_t)(count - whole) * sizeof(float));
}

void read_row(const void *from, int32_t kind, int64_t first, int64_t count, float *to) {
    if (kind == FLOAT32) memcpy(to, (const float *)from + first, (size_t)count * sizeof(float));
    else
        for (int64_t i = 0; i < count; i++) to[i] = from_bf16(((const uint16_t *)from)[first + i]);
}

void write_row(const float *from, int64_t count, void *to, int32_t kind, int64_t first) {
    if (kind == FLOAT32) memcpy((float *)to + first, from, (size_t)count * sizeof(float));
    else
        for (int64_t i = 0; i < count; i++) ((uint16_t *)to)[first + i] = to_bf16(from[i]);
}
