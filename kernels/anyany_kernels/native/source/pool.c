/* Threads that share the pieces of one job at a time.

   A job is done when its pieces are, not when all threads have come: whoever is free takes the next piece, so that a
   thread whose core another process has taken holds up no more than the piece in its hands. Idle threads look for work
   for some fifty microseconds, about what lies between two products of a pass, and then sleep: others use the cores. */
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

#define MOST_WORKERS 63
#define LOOKS 1000

typedef struct {
    void (*job)(void *, int64_t);
    void *context;
    uint32_t count;
    int helpers; /* workers that may take part */
} Work;

/* The upper half of a ticket counts jobs, the lower half the pieces taken. A job lies in the slot of its parity, which
   is not written again before the ticket has moved on, so that a piece is only ever taken of the job that was read. */
static _Atomic uint64_t ticket;
static _Atomic int64_t left;
static Work slots[2];
static _Atomic int sleeping;
static int workers;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER, lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;

static inline void rest(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void take_pieces(int worker) {
    for (;;) {
        uint64_t now = atomic_load(&ticket);
        Work work = slots[now >> 32 & 1];
        if ((uint32_t)now >= work.count || worker >= work.helpers) return;
        if (!atomic_compare_exchange_weak(&ticket, &now, now + 1)) continue;
        work.job(work.context, (uint32_t)now);
        atomic_fetch_sub(&left, 1);
    }
}

static void sleep_until_after(uint64_t job) {
    pthread_mutex_lock(&lock);
    atomic_fetch_add(&sleeping, 1);
    while (atomic_load(&ticket) >> 32 == job) pthread_cond_wait(&wake, &lock);
    atomic_fetch_sub(&sleeping, 1);
    pthread_mutex_unlock(&lock);
}

static void *work_on(void *number) {
    for (uint64_t job = 0;;) {
        for (int looks = 0; looks < LOOKS && atomic_load(&ticket) >> 32 == job; looks++) rest();
        if (atomic_load(&ticket) >> 32 == job) sleep_until_after(job);
        job = atomic_load(&ticket) >> 32;
        take_pieces((int)(intptr_t)number);
    }
    return NULL;
}

static void forget_workers(void) { /* a forked process has none */
    workers = 0;
    atomic_store(&sleeping, 0);
    pthread_mutex_init(&turn, NULL);
    pthread_mutex_init(&lock, NULL);
    pthread_cond_init(&wake, NULL);
}

static void hire(int wanted) {
    static int registered;
    if (!registered) registered = !pthread_atfork(NULL, NULL, forget_workers);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before); /* signals are for the program's own threads */
    while (workers < wanted) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work_on, (void *)(intptr_t)workers)) break;
        pthread_detach(thread);
        workers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void spread(void (*job)(void *, int64_t), void *context, int64_t count, int threads) {
    int helpers = threads - 1 < MOST_WORKERS ? threads - 1 : MOST_WORKERS;
    if (helpers < 1 || count < 2 || pthread_mutex_trylock(&turn)) { /* or somebody else has the threads */
        for (int64_t i = 0; i < count; i++) job(context, i);
        return;
    }
    if (workers < helpers) hire(helpers);
    uint64_t next = (atomic_load(&ticket) >> 32) + 1;
    slots[next & 1] = (Work){job, context, (uint32_t)count, helpers};
    atomic_store(&left, count);
    atomic_store(&ticket, next << 32);
    if (atomic_load(&sleeping)) {
        pthread_mutex_lock(&lock);
        pthread_cond_broadcast(&wake);
        pthread_mutex_unlock(&lock);
    }
    take_pieces(-1);
    for (int looks = 0; atomic_load(&left); looks++) looks < LOOKS ? rest() : (void)sched_yield();
    pthread_mutex_unlock(&turn);
}
