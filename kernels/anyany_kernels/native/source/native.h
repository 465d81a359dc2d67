/* What callers of this library hand over. Shapes: n rows, D model width, H query heads, Hkv key heads, Dh head
   width, F hidden width, S rows of the cache. ``binding.py`` holds the same structures. */
#ifndef ANYANY_NATIVE_H
#define ANYANY_NATIVE_H

#include <stdint.h>

enum { FLOAT32, BFLOAT16, INT8, INT4, KINDS };
enum { NO_NORM, RMS_NORM, LAYER_NORM };
enum { SWIGLU, GELU_TANH, GELU_EXACT };
enum { DONE, BAD_SLOT, BAD_INTERVAL, NO_MEMORY, TOO_WIDE };

#define MOST_ROWS 64   /* of a pass */
#define MOST_GROUP 64  /* query heads that share a key head */
#define MOST_WIDTH 512 /* of a head */

typedef struct {
    const void *data; /* FLOAT32 or BFLOAT16; NULL where there is none */
    int32_t kind;
} Vector;

/* (rows, columns), row by row: one row makes one output. INT8: rows of int8, padded with zeros to groups of 32, and
   one float scale a row. INT4: per group of 32 a float scale and 16 bytes, of which byte i holds weights i and i + 16. */
typedef struct {
    const void *data;
    const float *scales;
    Vector bias;
    int64_t rows, columns;
    int32_t kind;
} Matrix;

typedef struct {
    Vector weight, bias;
    float eps;
    int32_t kind;
} Norm;

typedef struct {
    Norm mixer_norm, query_norm, key_norm, ff_norm;
    Matrix qkv, out, up, down; /* up is gate and up, one above the other, for SWIGLU */
    int64_t window;            /* rows that a row sees, 0 for all */
    int32_t ff;
} Layer;

typedef struct {
    const Layer *layers;
    Norm norm;
    int64_t count, width, heads, kv_heads, head_dim;
} Stack;

typedef struct {
    const void *x; /* (n, D) */
    void *out;     /* (n, D), of the same kind */
    const float *cos, *sin;   /* (n, Dh / 2), or NULL */
    const int32_t *intervals; /* (n, 2, 2) */
    const int64_t *slots;     /* (n,) rows of the cache that the rows take */
    void *keys, *values;      /* (layers, S, Hkv, Dh) */
    int64_t n, capacity;
    int32_t kind, cache_kind, threads;
} Pass;

#endif
