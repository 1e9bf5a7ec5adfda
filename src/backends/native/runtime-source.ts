// The C that runs a plan: a pool of threads, and a loop over the plan's steps. Compiled once per
// machine and kept beside the kernels.

/** Doubles before the first step of a plan's block; `RUNTIME_SOURCE` reads them in this order. */
export const HEADER = {
  steps: 0,
  threads: 1,
  bindings: 2,
  scalars: 3,
  arena: 4,
  scratch: 5,
  scratchStride: 6,
  /** Counters of what was dealt out: a cache line for each thread and parallel step. */
  dealt: 7,
  parallelSteps: 8,
  /** Where to write how long each step took, in nanoseconds; 0 to measure nothing. */
  times: 9,
} as const;
export const HEADER_LENGTH = 10;

/** Doubles of a step before its arguments. */
export const STEP = { kernel: 0, gridSize: 1, itemsPerCall: 2, flags: 3, arguments: 4 } as const;
export const STEP_LENGTH = 5;

export const PARALLEL = 1;
export const BARRIER = 2;

/** An argument is a pair: where it is, and the offset, number or slot there. */
export const SPACE = { arena: 0, binding: 1, scalar: 2 } as const;

/** Most arguments of a kernel. */
export const MAXIMUM_ARGUMENTS = 255;

/** Bytes between the counters of two threads. */
export const COUNTER_BYTES = 64;

/**
 * `tengen_start(threads)` makes sure of so many threads, the caller's included, and returns how many
 * there are. `tengen_run(block)` runs a plan on the calling thread and the pool. `tengen_submit`
 * queues a plan for the pool's own first thread and returns a ticket; `tengen_wait` returns when that
 * ticket and all before it are done. All numbers in a block are doubles: addresses fit 53 bits.
 *
 * Threads that wait look at a word some thousand times and then sleep (docs/decisions/0004): long
 * spinning takes the core from the very thread that is waited for when the machine is busy.
 */
export const RUNTIME_SOURCE = `
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define MAXIMUM_THREADS 256
#define IDLE_SPINS 4000
#define BARRIER_SPINS 20000
#define MAXIMUM_ARGUMENTS ${MAXIMUM_ARGUMENTS}

typedef void (*kernel_function)(void**, long, long);

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

/* A word that threads wait on: they spin, then sleep. */
typedef struct {
  _Alignas(64) atomic_uint value;
  atomic_int sleepers;
  pthread_mutex_t mutex;
  pthread_cond_t changed;
} word_t;

static void word_init(word_t* word) {
  atomic_init(&word->value, 0);
  atomic_init(&word->sleepers, 0);
  pthread_mutex_init(&word->mutex, 0);
  pthread_cond_init(&word->changed, 0);
}

static unsigned word_wait(word_t* word, unsigned old, int spins) {
  unsigned now;
  for (int i = 0; i < spins; i++) {
    now = atomic_load_explicit(&word->value, memory_order_acquire);
    if (now != old) return now;
    relax();
  }
  pthread_mutex_lock(&word->mutex);
  atomic_fetch_add(&word->sleepers, 1);
  while ((now = atomic_load(&word->value)) == old) pthread_cond_wait(&word->changed, &word->mutex);
  atomic_fetch_sub(&word->sleepers, 1);
  pthread_mutex_unlock(&word->mutex);
  return now;
}

static void word_set(word_t* word, unsigned value) {
  atomic_store(&word->value, value);
  if (atomic_load(&word->sleepers) > 0) {
    pthread_mutex_lock(&word->mutex);
    pthread_cond_broadcast(&word->changed);
    pthread_mutex_unlock(&word->mutex);
  }
}

static pthread_mutex_t run_lock = PTHREAD_MUTEX_INITIALIZER;
static int workers;
static word_t work, phase, finished;
static _Alignas(64) atomic_uint arrived;
static _Alignas(64) atomic_int running;
static double* current;
/* The word that starts a run holds its thread count, so that a late worker cannot join the next. */
#define THREADS_OF(value) ((int)((value) & 511))
#define NEXT_RUN(value, threads) ((((value) >> 9) + 1) << 9 | (unsigned)(threads))

static void barrier(int threads) {
  unsigned now = atomic_load_explicit(&phase.value, memory_order_acquire);
  if (atomic_fetch_add_explicit(&arrived, 1, memory_order_acq_rel) == (unsigned)threads - 1) {
    atomic_store_explicit(&arrived, 0, memory_order_relaxed);
    word_set(&phase, now + 1);
  } else {
    word_wait(&phase, now, BARRIER_SPINS);
  }
}

/*
 * Each thread has a share of the grid of its own, the same in every run for the sake of caches; when
 * that is done it takes from the others, so that nobody waits for a thread that was interrupted.
 */
static int deal(char* counters, int thread, int threads, long grid, long items, long* begin, long* end) {
  for (int i = 0; i < threads; i++) {
    int owner = thread + i < threads ? thread + i : thread + i - threads;
    long first = grid * owner / threads, last = grid * (owner + 1) / threads;
    atomic_long* dealt = (atomic_long*)(counters + ${COUNTER_BYTES} * owner);
    if (first + atomic_load_explicit(dealt, memory_order_relaxed) >= last) continue;
    long at = first + atomic_fetch_add_explicit(dealt, items, memory_order_relaxed);
    if (at >= last) continue;
    *begin = at;
    *end = at + items < last ? at + items : last;
    return 1;
  }
  return 0;
}

static double nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return 1e9 * (double)now.tv_sec + (double)now.tv_nsec;
}

static void take_part(const double* block, int thread, int threads) {
  long steps = (long)block[${HEADER.steps}];
  const double* bindings = (const double*)(uintptr_t)block[${HEADER.bindings}];
  char* scalars = (char*)(uintptr_t)block[${HEADER.scalars}];
  char* arena = (char*)(uintptr_t)block[${HEADER.arena}];
  char* scratch = (char*)(uintptr_t)block[${HEADER.scratch}] + (long)block[${HEADER.scratchStride}] * thread;
  char* counters = (char*)(uintptr_t)block[${HEADER.dealt}];
  double* times = (double*)(uintptr_t)block[${HEADER.times}];
  double before = 0;
  const double* at = block + ${HEADER_LENGTH};
  void* arguments[MAXIMUM_ARGUMENTS + 1];
  for (long step = 0; step < steps; step++) {
    kernel_function kernel = (kernel_function)(uintptr_t)at[${STEP.kernel}];
    long grid = (long)at[${STEP.gridSize}], items = (long)at[${STEP.itemsPerCall}];
    int flags = (int)at[${STEP.flags}], count = (int)at[${STEP.arguments}];
    at += ${STEP_LENGTH};
    /* What is measured runs step by step. */
    if (((flags & ${BARRIER}) || times) && threads > 1) barrier(threads);
    if (times && thread == 0) {
      double now = nanoseconds();
      if (step > 0) times[step - 1] = now - before;
      before = now;
    }
    int shared = threads > 1 && (flags & ${PARALLEL});
    if (shared || thread == 0) {
      for (int i = 0; i < count; i++) {
        int space = (int)at[2 * i];
        double number = at[2 * i + 1];
        arguments[i] = space == ${SPACE.arena} ? arena + (long)number
          : space == ${SPACE.binding} ? (void*)(uintptr_t)bindings[(long)number]
          : scalars + 8 * (long)number;
      }
      arguments[count] = scratch;
      if (shared) {
        long begin, end;
        while (deal(counters, thread, threads, grid, items, &begin, &end)) kernel(arguments, begin, end);
      } else {
        kernel(arguments, 0, grid);
      }
    }
    if (flags & ${PARALLEL}) counters += ${COUNTER_BYTES} * threads;
    at += 2 * count;
  }
  if (times) {
    if (threads > 1) barrier(threads);
    if (thread == 0 && steps > 0) times[steps - 1] = nanoseconds() - before;
  }
}

static void* worker_main(void* argument) {
  int thread = (int)((uintptr_t)argument >> 32);
  unsigned seen = (unsigned)(uintptr_t)argument;
  for (;;) {
    seen = word_wait(&work, seen, IDLE_SPINS);
    int threads = THREADS_OF(seen);
    if (thread >= threads) continue;
    take_part(current, thread, threads);
    if (atomic_fetch_sub_explicit(&running, 1, memory_order_acq_rel) == 1) {
      word_set(&finished, atomic_load(&finished.value) + 1);
    }
  }
  return 0;
}

static word_t submitted, completed;
static int launched;

static void initialize(void) {
  word_init(&work);
  word_init(&phase);
  word_init(&finished);
  word_init(&submitted);
  word_init(&completed);
}

/* A process made by fork has none of the threads. */
static void forget_threads(void) {
  pthread_mutex_init(&run_lock, 0);
  workers = 0;
  launched = 0;
  atomic_store(&arrived, 0);
  initialize();
}

static int start_thread(void* (*entry)(void*), void* argument) {
  pthread_t thread;
  pthread_attr_t attributes;
  sigset_t all, before;
  /* Signals are for the threads of the program. */
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  int failed = pthread_create(&thread, &attributes, entry, argument);
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &before, 0);
  return !failed;
}

int tengen_start(int threads) {
  static int initialized;
  pthread_mutex_lock(&run_lock);
  if (!initialized) {
    initialized = 1;
    initialize();
    pthread_atfork(0, 0, forget_threads);
  }
  if (threads > MAXIMUM_THREADS) threads = MAXIMUM_THREADS;
  while (workers + 1 < threads) {
    /* It starts after the last run, of which it has no part. */
    uintptr_t seen = atomic_load(&work.value);
    if (!start_thread(worker_main, (void*)((uintptr_t)(workers + 1) << 32 | seen))) break;
    workers++;
  }
  int now = workers + 1;
  pthread_mutex_unlock(&run_lock);
  return now;
}

static int run(double* block) {
  pthread_mutex_lock(&run_lock);
  int threads = (int)block[${HEADER.threads}];
  if (threads > workers + 1) threads = workers + 1;
  if (threads <= 1) {
    take_part(block, 0, 1);
  } else {
    size_t counters = (size_t)block[${HEADER.parallelSteps}] * threads * ${COUNTER_BYTES};
    memset((void*)(uintptr_t)block[${HEADER.dealt}], 0, counters);
    current = block;
    atomic_store(&running, threads - 1);
    unsigned before = atomic_load(&finished.value);
    word_set(&work, NEXT_RUN(atomic_load(&work.value), threads));
    take_part(block, 0, threads);
    word_wait(&finished, before, BARRIER_SPINS);
  }
  pthread_mutex_unlock(&run_lock);
  return threads;
}

/* Plans that run beside the program, one after the other, on a thread of their own. */
#define QUEUE 64
static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static double* queue[QUEUE];

static void* launcher_main(void* argument) {
  unsigned done = (unsigned)(uintptr_t)argument;
  for (;;) {
    unsigned last = word_wait(&submitted, done, IDLE_SPINS);
    while (done != last) {
      run(queue[done % QUEUE]);
      word_set(&completed, ++done);
    }
  }
  return 0;
}

int tengen_wait(unsigned ticket) {
  unsigned now = atomic_load(&completed.value);
  while ((int)(now - ticket) < 0) now = word_wait(&completed, now, BARRIER_SPINS);
  return 0;
}

int tengen_done(unsigned ticket) {
  return (int)(atomic_load(&completed.value) - ticket) >= 0;
}

unsigned tengen_submit(double* block) {
  pthread_mutex_lock(&queue_lock);
  unsigned last = atomic_load(&submitted.value);
  if (!launched) {
    launched = start_thread(launcher_main, (void*)(uintptr_t)last);
    if (!launched) {
      /* No thread to be had: the caller does it now. */
      run(block);
      atomic_store(&submitted.value, last + 1);
      word_set(&completed, last + 1);
      pthread_mutex_unlock(&queue_lock);
      return last + 1;
    }
  }
  tengen_wait(last + 1 - QUEUE);
  queue[last % QUEUE] = block;
  word_set(&submitted, last + 1);
  pthread_mutex_unlock(&queue_lock);
  return last + 1;
}

/*
 * Linux gives fresh memory page by page as it is first touched, which takes several times as long as
 * writing to it. It may refuse the advice: nothing depends on it.
 */
int tengen_use_large_pages(double address, double bytes) {
#ifdef MADV_HUGEPAGE
  uintptr_t start = ((uintptr_t)address + 4095) & ~(uintptr_t)4095;
  uintptr_t end = ((uintptr_t)address + (uintptr_t)bytes) & ~(uintptr_t)4095;
  if (end > start) return madvise((void*)start, end - start, MADV_HUGEPAGE);
#endif
  return 0;
}

/* After everything that was submitted before. */
int tengen_run(double* block) {
  tengen_wait(atomic_load(&submitted.value));
  return run(block);
}
`;
