#ifndef ANYANY_MATRIX_H
#define ANYANY_MATRIX_H

#include <stdint.h>

#include "native.h"

/* Rows (n, columns) of activations. Matrices of integers want them as int16 with a float scale per group of 32, too:
   one part in 65,536 of the largest of 32, where bfloat16 keeps one in 256 of each. */
typedef struct {
    const float *x;
    int64_t n, columns, groups;
    int16_t *small;
    float *scales;
} Rows;

int64_t groups_of(int64_t columns);
int64_t bytes_of_small(int64_t n, int64_t columns);
int64_t bytes_of_row(const Matrix *matrix);

/* Rows for a product with the matrix; memory is for bytes_of_small and used for integers alone. */
Rows rows_for(const Matrix *matrix, const float *x, int64_t n, void *memory);

/* Outputs [first, last) of the matrix for each of the rows, biases included: y[row * stride + output]. */
void multiply(const Matrix *matrix, const Rows *rows, int64_t first, int64_t last, float *y, int64_t stride);

/* How many outputs a thread takes at a time: what stays in its own cache while all rows are multiplied with it. */
int64_t piece_of(const Matrix *matrix);

float at(Vector vector, int64_t index);

#endif
