// The C that runs a plan: a pool of threads, and a loop over the plan's steps. Compiled once per
// machine and kept beside the kernels.

/** Doubles before the first step of a plan's block; `RUNTIME_SOURCE` reads them in this order. */
export const HEADER = {
  /** Of the doubles behind the header. */
  length: 0,
  threads: 1,
  bindings: 2,
  scalars: 3,
  arena: 4,
  scratch: 5,
  scratchStride: 6,
  /** Counters of what was dealt out: a cache line for each thread and set of counters. */
  dealt: 7,
  counters: 8,
  /** Where to add how long each step took, in nanoseconds; 0 to measure nothing. */
  times: 9,
} as const;
export const HEADER_LENGTH = 10;

/**
 * Doubles of a step before its arguments. `counters`: number of its first set, of which it has a
 * second one `turned` sets later if it is in a loop that all threads go through.
 */
export const STEP = {
  flags: 0,
  kernel: 1,
  gridSize: 2,
  itemsPerCall: 3,
  number: 4,
  counters: 5,
  turned: 6,
  arguments: 7,
} as const;
export const STEP_LENGTH = 8;

/**
 * Doubles of a loop before its condition, an argument, which stands before its steps. `length`: of
 * what follows; `sets`: of counters that its own steps have, twice.
 */
export const LOOP = {
  flags: 0,
  trips: 1,
  depth: 2,
  length: 3,
  counters: 4,
  sets: 5,
  number: 6,
  arguments: 7,
} as const;
export const LOOP_LENGTH = 8;

export const PARALLEL = 1;
export const BARRIER = 2;
export const IS_LOOP = 4;
/** Of a condition: the loop goes on while it is false. */
export const WHILE_FALSE = 8;

/**
 * An argument is a pair: where it is, and the offset, number or slot there. Behind it pairs that move
 * it: by an offset, or with the iteration of a loop - `stride` + 3 * depth, and one more if it turns
 * to and fro, two more if it does so beginning there - and the bytes.
 */
export const SPACE = { arena: 0, binding: 1, scalar: 2, offset: 3, stride: 4 } as const;
/** Most loops within each other, and most of a plan. */
export const MAXIMUM_DEPTH = 16;
export const MAXIMUM_LOOPS = 1024;

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
 * spinning takes the core from the very thread that is waited for when the machine is busy. For the
 * same reason they yield every few microseconds: a thread that shares its core with the one that it
 * waits for then costs a switch and not the rest of a time slice.
 */
export const RUNTIME_SOURCE = `
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define MAXIMUM_THREADS 256
#define IDLE_SPINS 4000
#define BARRIER_SPINS 20000
#define SPINS_PER_YIELD 250
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
    if (i % SPINS_PER_YIELD == SPINS_PER_YIELD - 1) sched_yield();
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

/* What a thread needs on its way through a plan. */
typedef struct {
  const double* bindings;
  char *scalars, *arena, *scratch, *counters;
  double *times, before;
  int thread, threads, measured;
  /* Iterations of the loops around, and of a loop by number how often it turned to the other counters. */
  long iterations[${MAXIMUM_DEPTH}];
  unsigned char* turns;
  int turn;
} walk_t;

/* Reads \`count\` pairs into arguments; returns how many these are. */
static int resolve(const walk_t* walk, const double* at, int count, void** arguments) {
  int made = 0;
  for (int i = 0; i < count; i++) {
    int space = (int)at[2 * i];
    double number = at[2 * i + 1];
    if (space == ${SPACE.arena}) arguments[made++] = walk->arena + (long)number;
    else if (space == ${SPACE.binding}) arguments[made++] = (void*)(uintptr_t)walk->bindings[(long)number];
    else if (space == ${SPACE.scalar}) arguments[made++] = walk->scalars + 8 * (long)number;
    else {
      long by = 1;
      if (space >= ${SPACE.stride}) {
        int mode = (space - ${SPACE.stride}) % 3;
        by = walk->iterations[(space - ${SPACE.stride}) / 3];
        if (mode > 0) by = (by + mode - 1) & 1;
      }
      arguments[made - 1] = (char*)arguments[made - 1] + by * (long)number;
    }
  }
  return made;
}

/* What was measured goes to the step before. */
static void measure(walk_t* walk, int number) {
  if (walk->thread != 0) return;
  double now = nanoseconds();
  if (walk->measured >= 0) walk->times[walk->measured] += now - walk->before;
  walk->measured = number;
  walk->before = now;
}

static void do_step(walk_t* walk, const double* at, int flags) {
  kernel_function kernel = (kernel_function)(uintptr_t)at[${STEP.kernel}];
  long grid = (long)at[${STEP.gridSize}], items = (long)at[${STEP.itemsPerCall}];
  int threads = walk->threads;
  void* arguments[MAXIMUM_ARGUMENTS + 1];
  /* What is measured runs step by step. */
  if (((flags & ${BARRIER}) || walk->times) && threads > 1) barrier(threads);
  if (walk->times) measure(walk, (int)at[${STEP.number}]);
  int shared = threads > 1 && (flags & ${PARALLEL});
  if (!shared && walk->thread != 0) return;
  int count = resolve(walk, at + ${STEP_LENGTH}, (int)at[${STEP.arguments}], arguments);
  arguments[count] = walk->scratch;
  if (shared) {
    long set = (long)at[${STEP.counters}] + walk->turn * (long)at[${STEP.turned}], begin, end;
    char* counters = walk->counters + set * ${COUNTER_BYTES} * threads;
    while (deal(counters, walk->thread, threads, grid, items, &begin, &end)) kernel(arguments, begin, end);
  } else {
    kernel(arguments, 0, grid);
  }
}

static void do_steps(walk_t* walk, const double* at, const double* end);

static void do_loop(walk_t* walk, const double* at, int flags) {
  long trips = (long)at[${LOOP.trips}], sets = (long)at[${LOOP.sets}];
  int count = (int)at[${LOOP.arguments}], outer = walk->turn, threads = walk->threads;
  const double* steps = at + ${LOOP_LENGTH} + 2 * count;
  const double* end = at + ${LOOP_LENGTH} + (long)at[${LOOP.length}];
  long* iteration = walk->iterations + (int)at[${LOOP.depth}];
  /* Where every step is measured, the threads meet at every step and all go through every loop. */
  int together = threads > 1 && ((flags & ${PARALLEL}) || walk->times);
  if (threads > 1 && !together) {
    if (flags & ${BARRIER}) barrier(threads);
    if (walk->thread != 0) return;
  }
  for (*iteration = 0; ; ++*iteration) {
    if (together) {
      barrier(threads);
      /* Nobody is at the counters of the iteration before any more: they are cleared for the next. */
      unsigned char* turn = walk->turns + (int)at[${LOOP.number}];
      *turn ^= 1;
      walk->turn = *turn;
      if (walk->thread == 0) {
        long size = sets * ${COUNTER_BYTES} * threads;
        memset(walk->counters + (long)at[${LOOP.counters}] * ${COUNTER_BYTES} * threads + (*turn ^ 1) * size, 0, size);
      }
    }
    if (trips >= 0 && *iteration >= trips) break;
    if (count > 0) {
      void* condition[1];
      resolve(walk, at + ${LOOP_LENGTH}, count, condition);
      if (!*(unsigned char*)condition[0] != !!(flags & ${WHILE_FALSE})) break;
    }
    do_steps(walk, steps, end);
  }
  walk->turn = outer;
}

static void do_steps(walk_t* walk, const double* at, const double* end) {
  while (at < end) {
    int flags = (int)at[0];
    if (flags & ${IS_LOOP}) {
      do_loop(walk, at, flags);
      at += ${LOOP_LENGTH} + (long)at[${LOOP.length}];
    } else {
      do_step(walk, at, flags);
      at += ${STEP_LENGTH} + 2 * (long)at[${STEP.arguments}];
    }
  }
}

static void take_part(const double* block, int thread, int threads) {
  unsigned char turns[${MAXIMUM_LOOPS}];
  memset(turns, 0, sizeof turns);
  walk_t walk = {
    .bindings = (const double*)(uintptr_t)block[${HEADER.bindings}],
    .scalars = (char*)(uintptr_t)block[${HEADER.scalars}],
    .arena = (char*)(uintptr_t)block[${HEADER.arena}],
    .scratch = (char*)(uintptr_t)block[${HEADER.scratch}] + (long)block[${HEADER.scratchStride}] * thread,
    .counters = (char*)(uintptr_t)block[${HEADER.dealt}],
    .times = (double*)(uintptr_t)block[${HEADER.times}],
    .thread = thread, .threads = threads, .measured = -1, .turns = turns,
  };
  const double* steps = block + ${HEADER_LENGTH};
  do_steps(&walk, steps, steps + (long)block[${HEADER.length}]);
  if (walk.times) {
    if (threads > 1) barrier(threads);
    measure(&walk, -1);
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
    size_t counters = (size_t)block[${HEADER.counters}] * threads * ${COUNTER_BYTES};
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
