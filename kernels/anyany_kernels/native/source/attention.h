#ifndef ANYANY_ATTENTION_H
#define ANYANY_ATTENTION_H

#include <stdint.h>

/* One layer of the cache, (S, Hkv, Dh), as one key head sees it. */
typedef struct {
    const void *keys, *values;
    int64_t stride, width; /* numbers from row to row, Dh */
    int32_t kind;
} Pages;

/* Queries (count, Dh) of one row and key head, scaled, over two ranges [low, high) of rows: mixed values into
   out (count, Dh), zeros where the ranges are empty. */
void attend(const Pages *pages, const float *queries, int64_t count, const int64_t ranges[2][2], float *out);

#endif
