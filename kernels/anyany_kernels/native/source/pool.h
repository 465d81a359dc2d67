#ifndef ANYANY_POOL_H
#define ANYANY_POOL_H

#include <stdint.h>

/* Calls job(context, i) for all i below count, on at most so many threads, and returns when all are done. */
void spread(void (*job)(void *, int64_t), void *context, int64_t count, int threads);

#endif
