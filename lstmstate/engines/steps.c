/* Steps of LSTM cells over sequences, compiled for the vectors of several processors.
 *
 * The equations are those of `reference_step.py`. Weights come in panels: the columns of all gates
 * for as many units as a vector has lanes, `[panels, depth, gates, lanes]`. The gates of a panel
 * are summed in registers, and become c and m there.
 *
 * Python has the memory and checks all sizes; a pointer is passed as a number, because buffers are
 * no part of the limited API before Python 3.11.
 */

#define Py_LIMITED_API 0x030A0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if !defined(_WIN32)
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#endif

#define INLINE static inline __attribute__((always_inline))

#define CACHED (1 << 15) /* bytes of weights that stay in the nearest cache */

enum { TANH, SIGMOID, HARD_SIGMOID, KERAS3_HARD_SIGMOID, RELU, RELU6, LEAKY_RELU, ELU, SELU, SOFTSIGN, IDENTITY };

struct steps {
    ptrdiff_t steps, batch, inputs, units, width, gates;
    ptrdiff_t padded, columns; /* units, and units times gates, up to whole vectors */
    ptrdiff_t chunk;           /* steps whose input's part is computed at once */
    int threads, by_rows, is_standard, activation, candidate, recurrent_activation;
    int has_cell_clip, has_proj_clip, keeps;
    double forget_bias, cell_clip, proj_clip;
    const void *x, *m;                                    /* [steps, batch, inputs], [batch, width] */
    const void *kernel, *recurrent, *projection, *bias;   /* panels; bias [columns] likewise */
    const void *peepholes;                                /* [3, padded]: of i, f and o */
    void *c, *z, *unprojected;                            /* [batch, padded], [chunk, batch, columns] */
    void *outputs, *kept[5];                              /* [steps, batch, width], [.., units] */
    int meeting[2];                                       /* how many wait, and how often all did */
};

typedef void run_steps(struct steps *, int thread);

/* Wait for the other threads. */
static void meet(struct steps *s) {
    if (s->threads == 1 || s->by_rows) return;
    int round = __atomic_load_n(&s->meeting[1], __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&s->meeting[0], 1, __ATOMIC_ACQ_REL) == s->threads) {
        __atomic_store_n(&s->meeting[0], 0, __ATOMIC_RELAXED);
        __atomic_store_n(&s->meeting[1], round + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int tries = 0; __atomic_load_n(&s->meeting[1], __ATOMIC_ACQUIRE) == round; tries++) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
#if !defined(_WIN32)
        if (tries > 1000) sched_yield(); /* another process may need the processor */
#endif
    }
}

/* The part of a product that a thread computes: some rows, of several steps, by some panels. */
struct share {
    ptrdiff_t row, to_row, times, panel, to_panel;
};

static struct share share_of(const struct steps *s, ptrdiff_t rows, ptrdiff_t panels, int thread) {
    struct share found = {0, rows, 1, 0, panels};
    ptrdiff_t *first = s->by_rows ? &found.row : &found.panel, all = s->by_rows ? rows : panels;
    first[0] = all * thread / s->threads, first[1] = all * (thread + 1) / s->threads;
    return found;
}

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

/* Compile the functions up to END_TARGET for processors that have more instructions. */
#if defined(__clang__)
#define TARGET(features) \
    PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define END_TARGET PRAGMA(clang attribute pop)
#else
#define TARGET(features) PRAGMA(GCC push_options) PRAGMA(GCC target(features))
#define END_TARGET PRAGMA(GCC pop_options)
#endif
#define PRAGMA(words) _Pragma(#words)

#if defined(__x86_64__)

TARGET("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")
#define REAL float
#define WHOLE int32_t
#define BYTES 64
#define ROWS 6
#define NAME(x) x##_v4_float
#include "steps_of_type.h"
#define REAL double
#define WHOLE int64_t
#define BYTES 64
#define ROWS 6
#define NAME(x) x##_v4_double
#include "steps_of_type.h"
END_TARGET

TARGET("avx2,fma,bmi2")
#define REAL float
#define WHOLE int32_t
#define BYTES 32
#define ROWS 3
#define NAME(x) x##_v3_float
#include "steps_of_type.h"
#define REAL double
#define WHOLE int64_t
#define BYTES 32
#define ROWS 3
#define NAME(x) x##_v3_double
#include "steps_of_type.h"
END_TARGET

#endif

#define REAL float
#define WHOLE int32_t
#define BYTES 16
#define ROWS 3
#define NAME(x) x##_base_float
#include "steps_of_type.h"
#define REAL double
#define WHOLE int64_t
#define BYTES 16
#define ROWS 3
#define NAME(x) x##_base_double
#include "steps_of_type.h"

static const struct vectors {
    const char *name;
    int bytes;
    run_steps *run_float, *run_double;
} VECTORS[] = {
#if defined(__x86_64__)
    {"x86-64-v4", 64, run_v4_float, run_v4_double},
    {"x86-64-v3", 32, run_v3_float, run_v3_double},
#endif
    {"baseline", 16, run_base_float, run_base_double},
};

/* The number of the widest vectors that this processor has. */
static int widest(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("fma"))
        return 0;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) return 1;
    return 2;
#else
    return 0;
#endif
}

/* vectors() -> (name, bytes) of each kind that this processor has, the widest first. */
static PyObject *vectors(PyObject *module, PyObject *none) {
    (void)module, (void)none;
    int count = sizeof VECTORS / sizeof *VECTORS, first = widest();
    PyObject *found = PyTuple_New(count - first);
    for (int k = first; found && k < count; k++) {
        PyObject *one = Py_BuildValue("(si)", VECTORS[k].name, VECTORS[k].bytes);
        if (!one || PyTuple_SetItem(found, k - first, one) < 0) Py_CLEAR(found);
    }
    return found;
}

#if defined(_WIN32)

static void run_together(run_steps *run, struct steps *s) { s->threads = 1, run(s, 0); }

#else

struct helper {
    run_steps *run;
    struct steps *steps;
    int number, *may_begin;
};

static void *help(void *given) {
    struct helper *helper = given;
    while (!__atomic_load_n(helper->may_begin, __ATOMIC_ACQUIRE)) sched_yield();
    helper->run(helper->steps, helper->number);
    return NULL;
}

/* Run on as many threads as can be started. They are no threads of Python: one that waited for its
 * lock would often get the processor of the one that started it. Signals are left to the others. */
static void run_together(run_steps *run, struct steps *s) {
    enum { MOST = 64 };
    pthread_t threads[MOST];
    struct helper helpers[MOST];
    int count = 1, may_begin = 0, wanted = s->threads < MOST ? s->threads : MOST;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; count < wanted; count++) {
        helpers[count] = (struct helper){run, s, count, &may_begin};
        if (pthread_create(&threads[count], NULL, help, &helpers[count])) break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    s->threads = count;
    __atomic_store_n(&may_begin, 1, __ATOMIC_RELEASE);
    run(s, 0);
    while (--count) pthread_join(threads[count], NULL);
}

#endif

/* run(vectors, is_double, plan): the plan is the bytes of a struct steps. */
static PyObject *run(PyObject *module, PyObject *arguments) {
    (void)module;
    int kind, is_double;
    const char *plan;
    Py_ssize_t size;
    struct steps s;
    if (!PyArg_ParseTuple(arguments, "iiy#", &kind, &is_double, &plan, &size)) return NULL;
    kind += widest();
    if (size != sizeof s || kind < 0 || kind >= (int)(sizeof VECTORS / sizeof *VECTORS)) {
        PyErr_SetString(PyExc_ValueError, "the plan is of another build");
        return NULL;
    }
    memcpy(&s, plan, sizeof s);
    Py_BEGIN_ALLOW_THREADS;
    run_together(is_double ? VECTORS[kind].run_double : VECTORS[kind].run_float, &s);
    Py_END_ALLOW_THREADS;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"vectors", vectors, METH_NOARGS, "The name and the bytes of each kind of vectors, the widest first."},
    {"run", run, METH_VARARGS, "Run the steps of a plan."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_steps", .m_doc = "Compiled steps of cells.", .m_methods = methods};

PyMODINIT_FUNC PyInit__steps(void);
PyMODINIT_FUNC PyInit__steps(void) { return PyModule_Create(&definition); }
