#ifndef ANYANY_ROWS_H
#define ANYANY_ROWS_H

#include "native.h"

/* Steps between the products, for one row at a time. */

/* out (width) = the norm of x (width); out may be x. */
void normalise(const Norm *norm, const float *x, int64_t width, float *out);

/* Turns one head (width) by angles (width / 2), half against half. */
void turn_head(float *head, int64_t width, const float *cos, const float *sin);

/* out (count) = silu(gate) * up, or gelu(up) where there is no gate. */
void activate(int32_t ff, const float *gate, const float *up, int64_t count, float *out);

void read_row(const void *from, int32_t kind, int64_t first, int64_t count, float *to);
void write_row(const float *from, int64_t count, void *to, int32_t kind, int64_t first);

#endif
