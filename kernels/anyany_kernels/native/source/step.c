/* A pass of a few rows through all layers of a decoder, in one call. Shapes as in native.h. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "attention.h"
#include "lanes.h"
#include "matrix.h"
#include "pool.h"
#include "rows.h"

const char *anyany_isa(void) { return ISA; }

/* Memory of the calling thread, kept from call to call and freed with the thread. */
static pthread_key_t kept;
static pthread_once_t once = PTHREAD_ONCE_INIT;
typedef struct {
    size_t bytes;
    _Alignas(64) char at[];
} Memory;

static void make_key(void) { pthread_key_create(&kept, free); }

static void *memory_of(size_t bytes) {
    pthread_once(&once, make_key);
    Memory *memory = pthread_getspecific(kept);
    if (memory != NULL && memory->bytes >= bytes) return memory->at;
    free(memory);
    memory = aligned_alloc(64, (sizeof(Memory) + bytes + 63) / 64 * 64);
    pthread_setspecific(kept, memory);
    if (memory == NULL) return NULL;
    memory->bytes = bytes;
    return memory->at;
}

typedef struct {
    const Stack *stack;
    const Pass *pass;
    const Layer *layer;
    int64_t index; /* of the layer */
    float *x, *normed, *qkv, *mixed, *both, *inner;
    void *small;
    const Matrix *matrix; /* of the product that is being made, with its input and output */
    Rows rows;
    float *y;
} State;

static int64_t largest(int64_t a, int64_t b) { return a > b ? a : b; }

/* Buffers of a pass, one behind the other. */
static int lay_out(State *s) {
    int64_t n = s->pass->n, heads = s->stack->heads * s->stack->head_dim, hidden = 0, outputs = 0;
    for (int64_t i = 0; i < s->stack->count; i++) {
        outputs = largest(outputs, s->stack->layers[i].up.rows);
        hidden = largest(hidden, s->stack->layers[i].down.columns);
    }
    int64_t sizes[] = {s->stack->width, s->stack->width, heads + 2 * s->stack->kv_heads * s->stack->head_dim,
                       heads,           outputs,         hidden};
    float **buffers[] = {&s->x, &s->normed, &s->qkv, &s->mixed, &s->both, &s->inner};
    int64_t widest = largest(hidden, largest(s->stack->width, heads));
    size_t bytes = (size_t)bytes_of_small(n, widest) + 64;
    for (int i = 0; i < 6; i++) bytes += (size_t)(n * sizes[i] * 4 + 63) / 64 * 64;
    char *free_from = memory_of(bytes);
    if (free_from == NULL) return NO_MEMORY;
    for (int i = 0; i < 6; i++) {
        *buffers[i] = (float *)free_from;
        free_from += (size_t)(n * sizes[i] * 4 + 63) / 64 * 64;
    }
    s->small = free_from;
    return DONE;
}

/* Products: pieces of the outputs of a matrix. */

static void plain_piece(void *context, int64_t piece) {
    State *s = context;
    int64_t size = piece_of(s->matrix), first = piece * size, last = first + size;
    multiply(s->matrix, &s->rows, first, last < s->matrix->rows ? last : s->matrix->rows, s->y, s->matrix->rows);
}

static void adding_piece(void *context, int64_t piece) { /* y is added to the residual x */
    State *s = context;
    plain_piece(context, piece);
    int64_t size = piece_of(s->matrix), width = s->matrix->rows, first = piece * size, last = first + size;
    if (last > width) last = width;
    for (int64_t row = 0; row < s->pass->n; row++)
        for (int64_t i = first; i < last; i++) s->x[row * width + i] += s->y[row * width + i];
}

static int64_t opening_size(const Matrix *up) { /* two stretches of outputs in the place of one */
    return largest(24, piece_of(up) / 48 * 24);
}

static void opening_piece(void *context, int64_t piece) { /* up, and gate, then what the two make of each other */
    State *s = context;
    int32_t ff = s->layer->ff;
    int64_t outputs = s->matrix->rows, hidden = s->layer->down.columns, size = opening_size(s->matrix);
    int64_t first = piece * size, last = first + size < hidden ? first + size : hidden, gate = outputs - hidden;
    multiply(s->matrix, &s->rows, first, last, s->y, outputs);
    if (ff == SWIGLU) multiply(s->matrix, &s->rows, gate + first, gate + last, s->y, outputs);
    for (int64_t row = 0; row < s->pass->n; row++) {
        const float *y = s->y + row * outputs + first;
        activate(ff, y, y + gate, last - first, s->inner + row * hidden + first);
    }
}

static void product(State *s, const Matrix *matrix, const float *x, float *y, void (*piece)(void *, int64_t)) {
    s->matrix = matrix;
    s->y = y;
    s->rows = rows_for(matrix, x, s->pass->n, s->small);
    int64_t size = piece_of(matrix), outputs = matrix->rows;
    if (piece == opening_piece) size = opening_size(matrix), outputs = s->layer->down.columns;
    spread(piece, s, (outputs + size - 1) / size, s->pass->threads);
}

static void normalise_all(State *s, const Norm *norm) {
    int64_t width = s->stack->width;
    for (int64_t row = 0; row < s->pass->n; row++) normalise(norm, s->x + row * width, width, s->normed + row * width);
}

/* Attention. */

/* What a row sees in a layer: with a window, the rows of the prefix count as standing right before the own run. */
static void ranges_of(const State *s, int64_t row, int64_t ranges[2][2]) {
    const int32_t *given = s->pass->intervals + row * 4;
    for (int i = 0; i < 4; i++) ranges[i / 2][i % 2] = given[i];
    int64_t window = s->layer->window, self = s->pass->slots[row] + 1;
    if (window == 0) return;
    int64_t reach = largest(0, window - (self - ranges[1][0]));
    ranges[1][0] = largest(ranges[1][0], self - window);
    ranges[0][0] = largest(ranges[0][0], ranges[0][1] - reach);
}

static int64_t first_number(const State *s) { /* of the layer in the cache */
    return s->index * s->pass->capacity * s->stack->kv_heads * s->stack->head_dim;
}

static const void *numbers_from(const void *from, int32_t kind, int64_t index) {
    return (const char *)from + index * (kind == FLOAT32 ? 4 : 2);
}

/* Norms and turns of a row's queries and keys; keys and values go into the cache, queries are scaled. */
static void place(State *s, int64_t row) {
    const Stack *stack = s->stack;
    int64_t width = stack->head_dim, queries = stack->heads, keys = queries + stack->kv_heads;
    float *heads = s->qkv + row * (keys + stack->kv_heads) * width, scale = 1.0f / sqrtf((float)width);
    for (int64_t head = 0; head < keys; head++) {
        float *at = heads + head * width;
        const Norm *norm = head < queries ? &s->layer->query_norm : &s->layer->key_norm;
        if (norm->kind != NO_NORM) normalise(norm, at, width, at);
        if (s->pass->cos != NULL)
            turn_head(at, width, s->pass->cos + row * (width / 2), s->pass->sin + row * (width / 2));
    }
    for (int64_t i = 0; i < queries * width; i++) heads[i] *= scale;
    int64_t count = stack->kv_heads * width, to = first_number(s) + s->pass->slots[row] * count;
    write_row(heads + queries * width, count, s->pass->keys, s->pass->cache_kind, to);
    write_row(heads + keys * width, count, s->pass->values, s->pass->cache_kind, to);
}

static void attend_piece(void *context, int64_t piece) { /* one row, one key head */
    State *s = context;
    const Stack *stack = s->stack;
    int64_t row = piece / stack->kv_heads, head = piece % stack->kv_heads, group = stack->heads / stack->kv_heads;
    int64_t width = stack->head_dim, from = first_number(s) + head * width, ranges[2][2];
    ranges_of(s, row, ranges);
    Pages pages = {numbers_from(s->pass->keys, s->pass->cache_kind, from),
                   numbers_from(s->pass->values, s->pass->cache_kind, from), stack->kv_heads * width, width,
                   s->pass->cache_kind};
    const float *queries = s->qkv + (row * (stack->heads + 2 * stack->kv_heads) + head * group) * width;
    attend(&pages, queries, group, (const int64_t(*)[2])ranges, s->mixed + (row * stack->heads + head * group) * width);
}

#define ENOUGH 65536 /* numbers of keys and values for which it pays to share attention out */

static void attention(State *s) {
    const Stack *stack = s->stack;
    int64_t seen = 0, ranges[2][2];
    for (int64_t row = 0; row < s->pass->n; row++) {
        place(s, row);
        ranges_of(s, row, ranges);
        for (int i = 0; i < 2; i++) seen += largest(0, ranges[i][1] - ranges[i][0]);
    }
    int64_t numbers = 2 * seen * stack->heads * stack->head_dim;
    spread(attend_piece, s, s->pass->n * stack->kv_heads, numbers < ENOUGH ? 1 : s->pass->threads);
}

static int check(const Stack *stack, const Pass *pass) {
    if (stack->head_dim > MOST_WIDTH || stack->heads > MOST_GROUP * stack->kv_heads || pass->n > MOST_ROWS)
        return TOO_WIDE;
    for (int64_t row = 0; row < pass->n; row++) {
        if (pass->slots[row] < 0 || pass->slots[row] >= pass->capacity) return BAD_SLOT;
        for (int i = 0; i < 2; i++) {
            const int32_t *range = pass->intervals + row * 4 + i * 2;
            if (range[0] < 0 || range[1] > pass->capacity) return BAD_INTERVAL;
        }
    }
    return DONE;
}

/* Rows (n, D) -> hidden states behind the last norm (n, D); keys and values of the rows go into the cache. */
int32_t anyany_step(const Stack *stack, const Pass *pass) {
    State s = {.stack = stack, .pass = pass};
    int wrong = check(stack, pass);
    if (!wrong) wrong = lay_out(&s);
    if (wrong) return wrong;
    int64_t numbers = pass->n * stack->width;
    read_row(pass->x, pass->kind, 0, numbers, s.x);
    for (s.index = 0; s.index < stack->count; s.index++) {
        s.layer = stack->layers + s.index;
        normalise_all(&s, &s.layer->mixer_norm);
        product(&s, &s.layer->qkv, s.normed, s.qkv, plain_piece);
        attention(&s);
        product(&s, &s.layer->out, s.mixed, s.normed, adding_piece);
        normalise_all(&s, &s.layer->ff_norm);
        product(&s, &s.layer->up, s.normed, s.both, opening_piece);
        product(&s, &s.layer->down, s.inner, s.normed, adding_piece);
    }
    normalise_all(&s, &stack->norm);
    write_row(s.normed, numbers, pass->out, pass->kind, 0);
    return DONE;
}

/* Rows (n, columns) of either kind times a matrix -> y (n, rows) of the same kind. */
int32_t anyany_product(const Matrix *matrix, const void *x, void *out, int32_t kind, int64_t n, int32_t threads) {
    Pass pass = {.n = n, .threads = threads};
    State s = {.pass = &pass};
    if (n > MOST_ROWS) return TOO_WIDE;
    int64_t inputs = (n * matrix->columns + 15) / 16 * 16, outputs = (n * matrix->rows + 15) / 16 * 16;
    char *memory = memory_of((size_t)((inputs + outputs) * 4 + bytes_of_small(n, matrix->columns)));
    if (memory == NULL) return NO_MEMORY;
    s.x = (float *)memory;
    s.small = memory + (inputs + outputs) * 4;
    read_row(x, kind, 0, n * matrix->columns, s.x);
    float *y = kind == FLOAT32 ? out : (float *)memory + inputs;
    product(&s, matrix, s.x, y, plain_piece);
    if (kind != FLOAT32) write_row(y, n * matrix->rows, out, kind, 0);
    return DONE;
}
