/* Weights as small integers: int8 with one scale a row, int4 with one a group of 32. Laid out as native.h says. */
#include <stdlib.h>

#include "lanes.h"
#include "matrix.h"

static float largest_of(const float *x, int64_t count) { /* by size, with its sign */
    float largest = 0.0f;
    for (int64_t i = 0; i < count; i++) largest = fabsf(x[i]) > fabsf(largest) ? x[i] : largest;
    return largest;
}

static int within(float x, int low, int high) {
    int n = (int)rintf(x);
    return n < low ? low : n > high ? high : n;
}

static void row_to_int8(const float *x, int64_t columns, int8_t *to, float *scale) {
    *scale = fabsf(largest_of(x, columns)) / 127.0f;
    float inverse = *scale > 0.0f ? 1.0f / *scale : 0.0f;
    for (int64_t i = 0; i < groups_of(columns) * GROUP; i++)
        to[i] = i < columns ? (int8_t)within(x[i] * inverse, -127, 127) : 0;
}

static void row_to_int4(const float *x, int64_t columns, uint8_t *to) {
    for (int64_t first = 0; first < columns; first += GROUP, to += GROUP / 2 + sizeof(float)) {
        int64_t count = columns - first < GROUP ? columns - first : GROUP;
        float scale = largest_of(x + first, count) / -8.0f; /* the largest is -8, since there is no 8 */
        float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
        memcpy(to, &scale, sizeof scale);
        for (int i = 0; i < GROUP / 2; i++) {
            int low = i < count ? within(x[first + i] * inverse, -8, 7) : 0;
            int high = i + GROUP / 2 < count ? within(x[first + i + GROUP / 2] * inverse, -8, 7) : 0;
            to[sizeof scale + i] = (uint8_t)((low + 8) | (high + 8) << 4);
        }
    }
}

int64_t anyany_bytes(int32_t kind, int64_t rows, int64_t columns) {
    Matrix matrix = {.rows = rows, .columns = columns, .kind = kind};
    return rows * bytes_of_row(&matrix);
}

/* Fills data, of anyany_bytes, and for INT8 the scales, from weights (rows, columns) of floats or bfloat16. */
int32_t anyany_quantise(const Matrix *from, int32_t kind, void *data, float *scales) {
    float *x = malloc((size_t)from->columns * sizeof(float));
    if (x == NULL) return NO_MEMORY;
    for (int64_t row = 0; row < from->rows; row++) {
        for (int64_t i = 0; i < from->columns; i++) x[i] = at((Vector){from->data, from->kind}, row * from->columns + i);
        Matrix to = {.columns = from->columns, .kind = kind};
        char *line = (char *)data + row * bytes_of_row(&to);
        if (kind == INT8) row_to_int8(x, from->columns, (int8_t *)line, scales + row);
        else row_to_int4(x, from->columns, (uint8_t *)line);
    }
    free(x);
    return DONE;
}
