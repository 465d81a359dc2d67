/* A few rows times a matrix, each weight read once from memory.

   A block is some rows times some outputs whose sums stay in registers. The sum of one row and one output takes its
   terms in the same order in every block, so that what a row gives does not depend on how many others there are. */
#include "matrix.h"

#include "lanes.h"

#define PIECE 65536 /* bytes */

int64_t groups_of(int64_t columns) { return (columns + GROUP - 1) / GROUP; }

int64_t bytes_of_small(int64_t n, int64_t columns) {
    return n * groups_of(columns) * (GROUP * (int64_t)sizeof(int16_t) + (int64_t)sizeof(float));
}

int64_t bytes_of_row(const Matrix *matrix) {
    if (matrix->kind == INT8) return groups_of(matrix->columns) * GROUP;
    if (matrix->kind == INT4) return groups_of(matrix->columns) * (GROUP / 2 + (int64_t)sizeof(float));
    return matrix->columns * (matrix->kind == FLOAT32 ? 4 : 2);
}

int64_t piece_of(const Matrix *matrix) {
    int64_t outputs = PIECE / bytes_of_row(matrix);
    return outputs < 24 ? 24 : outputs / 24 * 24; /* blocks of 8, 4 and 3 outputs come out even */
}

float at(Vector vector, int64_t index) {
    return vector.kind == FLOAT32 ? ((const float *)vector.data)[index]
                                  : from_bf16(((const uint16_t *)vector.data)[index]);
}

static void shrink(const float *x, int64_t count, int16_t *small, float *scale) {
    int32_t bits = 0; /* of the largest: floats without their sign are in the order of their bits */
    for (int64_t i = 0; i < count; i++) {
        int32_t size;
        memcpy(&size, x + i, 4);
        size &= 0x7fffffff;
        bits = size > bits ? size : bits;
    }
    float largest;
    memcpy(&largest, &bits, 4);
    int finite = bits < 0x7f800000;
    float inverse = finite && largest > 1e-30f ? 32767.0f / largest : 0.0f;
    for (int64_t i = 0; i < count; i++) small[i] = finite ? (int16_t)(int32_t)rintf(x[i] * inverse) : 1;
    for (int64_t i = count; i < GROUP; i++) small[i] = 0;
    *scale = finite ? largest / 32767.0f : NAN; /* what is no number stays none */
}

Rows rows_for(const Matrix *matrix, const float *x, int64_t n, void *memory) {
    Rows rows = {x, n, matrix->columns, groups_of(matrix->columns), NULL, NULL};
    if (matrix->kind != INT8 && matrix->kind != INT4) return rows;
    rows.scales = memory;
    rows.small = (int16_t *)(rows.scales + n * rows.groups);
    for (int64_t row = 0; row < n; row++)
        for (int64_t g = 0; g < rows.groups; g++) {
            int64_t rest = rows.columns - g * GROUP, index = row * rows.groups + g;
            shrink(x + row * rows.columns + g * GROUP, rest < GROUP ? rest : GROUP, rows.small + index * GROUP,
                   rows.scales + index);
        }
    return rows;
}

typedef struct {
    const Matrix *matrix;
    const Rows *rows;
    float *y;
    int64_t stride;
} Product;

INLINE lanes weights_at(const void *row, int64_t k, const int kind) {
    return kind == FLOAT32 ? lanes_load((const float *)row + k) : lanes_load_bf16((const uint16_t *)row + k);
}

INLINE float weight_at(const void *row, int64_t k, const int kind) {
    return kind == FLOAT32 ? ((const float *)row)[k] : from_bf16(((const uint16_t *)row)[k]);
}

/* Asks for as many bytes of the block behind this one as this one has just used. Several rows of a matrix often share a
   page, and processors that guess page by page do not see where their reader goes: of int4 three times as much comes in. */
INLINE void fetch(const char *from, const int64_t bytes) {
    for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(from + line, 0, 2);
}

/* n rows from row on times outs outputs from out on; kind, n and outs are constants wherever this is called. */
INLINE void block_of_floats(Product p, int64_t row, int64_t out, const int kind, const int n, const int outs) {
    int64_t columns = p.rows->columns, whole = columns / LANES * LANES, size = kind == FLOAT32 ? 4 : 2;
    const char *weights = (const char *)p.matrix->data + out * columns * size;
    const float *x = p.rows->x + row * columns;
    lanes sums[4][8];
    for (int r = 0; r < n; r++)
        for (int o = 0; o < outs; o++) sums[r][o] = lanes_all(0.0f);
    const char *next = weights + outs * columns * size;
    for (int64_t k = 0; k < whole; k += LANES, next += outs * LANES * size) {
        lanes w[8];
        fetch(next, outs * LANES * size);
        for (int o = 0; o < outs; o++) w[o] = weights_at(weights + o * columns * size, k, kind);
        for (int r = 0; r < n; r++) {
            lanes value = lanes_load(x + r * columns + k);
            for (int o = 0; o < outs; o++) sums[r][o] = lanes_fma(w[o], value, sums[r][o]);
        }
    }
    for (int r = 0; r < n; r++)
        for (int o = 0; o < outs; o++) {
            float sum = lanes_sum(sums[r][o]);
            for (int64_t k = whole; k < columns; k++)
                sum = MULTIPLY_ADD(weight_at(weights + o * columns * size, k, kind), x[r * columns + k], sum);
            p.y[(row + r) * p.stride + out + o] = sum;
        }
}

INLINE void block_of_integers(Product p, int64_t row, int64_t out, const int kind, const int n, const int outs) {
    const int64_t groups = p.rows->groups, size = kind == INT8 ? GROUP : GROUP / 2 + (int64_t)sizeof(float);
    const char *weights = (const char *)p.matrix->data + out * groups * size;
    const int16_t *x = p.rows->small + row * groups * GROUP;
    const float *scales = p.rows->scales + row * groups;
    lanes sums[4][8];
    for (int r = 0; r < n; r++)
        for (int o = 0; o < outs; o++) sums[r][o] = lanes_all(0.0f);
    const char *next = weights + outs * groups * size;
    for (int64_t g = 0; g < groups; g++, next += outs * size) {
        fetch(next, outs * size);
        for (int o = 0; o < outs; o++) {
            const char *from = weights + (o * groups + g) * size;
            float scale = 1.0f;
            if (kind == INT4) memcpy(&scale, from, sizeof scale);
            group w = kind == INT8 ? group_int8((const int8_t *)from) : group_int4((const uint8_t *)from + sizeof scale);
            for (int r = 0; r < n; r++) {
                float of_row = scales[r * groups + g];
                lanes both = lanes_all(kind == INT4 ? of_row * scale : of_row);
                sums[r][o] = lanes_fma(group_dot(w, x + (r * groups + g) * GROUP), both, sums[r][o]);
            }
        }
    }
    for (int r = 0; r < n; r++)
        for (int o = 0; o < outs; o++) {
            float sum = lanes_sum(sums[r][o]);
            p.y[(row + r) * p.stride + out + o] = kind == INT8 ? sum * p.matrix->scales[out + o] : sum;
        }
}

INLINE void tile(Product p, int64_t row, int64_t first, int64_t last, const int kind, const int n, const int outs) {
    int64_t out = first;
    if (kind == FLOAT32 || kind == BFLOAT16) {
        for (; out + outs <= last; out += outs) block_of_floats(p, row, out, kind, n, outs);
        for (; out < last; out++) block_of_floats(p, row, out, kind, n, 1);
    } else {
        for (; out + outs <= last; out += outs) block_of_integers(p, row, out, kind, n, outs);
        for (; out < last; out++) block_of_integers(p, row, out, kind, n, 1);
    }
}

/* As many sums as there are registers for, of four rows at most. */
#define TILES(name, kind, one, two, three, four)                                                                       \
    static void name(Product p, int64_t first, int64_t last) {                                                         \
        int64_t row = 0, n = p.rows->n;                                                                                \
        for (; row + 4 <= n; row += 4) tile(p, row, first, last, kind, 4, four);                                       \
        if (n - row == 3) tile(p, row, first, last, kind, 3, three);                                                   \
        if (n - row == 2) tile(p, row, first, last, kind, 2, two);                                                     \
        if (n - row == 1) tile(p, row, first, last, kind, 1, one);                                                     \
    }
TILES(multiply_float32, FLOAT32, 8, 4, 3, 3)
TILES(multiply_bfloat16, BFLOAT16, 8, 4, 3, 3)
TILES(multiply_int8, INT8, 4, 4, 3, 2)
TILES(multiply_int4, INT4, 4, 4, 3, 2)

void multiply(const Matrix *matrix, const Rows *rows, int64_t first, int64_t last, float *y, int64_t stride) {
    static void (*const by_kind[KINDS])(Product, int64_t, int64_t) = {
        [FLOAT32] = multiply_float32, [BFLOAT16] = multiply_bfloat16, [INT8] = multiply_int8, [INT4] = multiply_int4};
    by_kind[matrix->kind]((Product){matrix, rows, y, stride}, first, last);
    if (matrix->bias.data == NULL) return;
    for (int64_t row = 0; row < rows->n; row++)
        for (int64_t out = first; out < last; out++) y[row * stride + out] += at(matrix->bias, out);
}
