/* The steps of a cell, for one type of numbers and one width of vectors.
 *
 * Included by steps.c once for each, with these defined:
 *   REAL, WHOLE      float and int32_t, or double and int64_t
 *   BYTES            of a vector
 *   ROWS             rows of a product that are summed at once, as many as there are registers for
 *   NAME(x)          x with a suffix of its own
 */

typedef REAL NAME(vector) __attribute__((vector_size(BYTES)));
typedef REAL NAME(loose) __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
typedef WHOLE NAME(bits) __attribute__((vector_size(BYTES)));

#define V NAME(vector)
#define BITS NAME(bits)
#define LANES ((ptrdiff_t)(BYTES / sizeof(REAL)))

INLINE V NAME(load)(const REAL *from) { return *(const NAME(loose) *)from; }

INLINE V NAME(all)(REAL value) { return value - (V){0}; }

INLINE V NAME(choose)(BITS where, V yes, V no) {
    return (V)(((BITS)yes & where) | ((BITS)no & ~where));
}

/* Within two bounds; NaN stays NaN. The second bound is the stronger one, as for a negative clip. */
INLINE V NAME(clip)(V x, REAL low, REAL high) {
    x = NAME(choose)(x < NAME(all)(low), NAME(all)(low), x);
    return NAME(choose)(x > NAME(all)(high), NAME(all)(high), x);
}

/* Store the first `count` of the lanes. */
INLINE void NAME(store)(REAL *to, V x, ptrdiff_t count) {
    if (count >= LANES)
        *(NAME(loose) *)to = x;
    else
        for (ptrdiff_t k = 0; k < count; k++) to[k] = x[k];
}

/* exp(x) - 1 for |x| < 88, or 709 in double: with x = k ln 2 + r it is 2^k (exp(r) - 1) + (2^k - 1), and exp(r) - 1
 * is its Taylor series. */
INLINE V NAME(expm1)(V x) {
    const int is_float = sizeof(REAL) == 4;
    const REAL round = is_float ? (REAL)12582912.0 : (REAL)6755399441055744.0; /* 1.5 * 2^23, 2^52 */
    const int mantissa = is_float ? 23 : 52;
    const WHOLE bias = is_float ? 127 : 1023;
    V shifted = x * (REAL)1.4426950408889634 + round;
    V k = shifted - round;
    /* ln 2 as a number with zeros at its end, whose products with k are exact, and the rest. */
    V r = is_float ? x - k * (REAL)0.693145751953125 - k * (REAL)1.4286068203094172e-06
                   : x - k * (REAL)0.6931471803691238 - k * (REAL)1.9082149292705877e-10;
    V power = (V)(((BITS)shifted + bias) << mantissa); /* its low bits are those of k */
    V square = r * r, fourth = square * square;
    V low = (REAL)(1 / 2.0) + r * (REAL)(1 / 6.0) + square * ((REAL)(1 / 24.0) + r * (REAL)(1 / 120.0));
    V sum = low + fourth * ((REAL)(1 / 720.0) + r * (REAL)(1 / 5040.0));
    if (!is_float) {
        V high = (REAL)(1 / 40320.0) + r * (REAL)(1 / 362880.0) +
                 square * ((REAL)(1 / 3628800.0) + r * (REAL)(1 / 39916800.0));
        V last = (REAL)(1 / 479001600.0) + r * (REAL)(1 / 6227020800.0) +
                 square * (REAL)(1 / 87178291200.0);
        sum = low + fourth * ((REAL)(1 / 720.0) + r * (REAL)(1 / 5040.0) + square * (high + fourth * last));
    }
    sum = sum * square + r;
    return power * sum + (power - 1);
}

/* tanh(x) is e / (e + 2) with e = exp(2 x) - 1; beyond the bounds it is 1. */
INLINE V NAME(tanh_e)(V x) {
    const REAL bound = sizeof(REAL) == 4 ? (REAL)20 : (REAL)44;
    V e = NAME(expm1)(NAME(clip)(x + x, -bound, bound));
    return NAME(choose)(x == 0, x, e); /* the sign of zero */
}

/* sigmoid(x) is 1 / d with d = 1 + exp(-x); where exp(-x) is beyond the range it is 0. */
INLINE V NAME(sigmoid_d)(V x) {
    const REAL bound = sizeof(REAL) == 4 ? (REAL)87 : (REAL)700;
    V d = NAME(expm1)(NAME(clip)(-x, -bound, bound)) + 2;
    return NAME(choose)(x < NAME(all)(-bound), NAME(all)((REAL)INFINITY), d);
}

/* alpha (exp(x) - 1) below zero, and x above. */
INLINE V NAME(elu)(V x, REAL alpha, REAL scale) {
    V below = NAME(expm1)(NAME(clip)(x, -80, 0)) * (alpha * scale);
    return NAME(choose)(x < 0, below, x * scale);
}

static V NAME(apply)(int activation, V x) {
    V zero = {0};
    switch (activation) {
    case TANH: x = NAME(tanh_e)(x); return x / (x + 2);
    case SIGMOID: return 1 / NAME(sigmoid_d)(x);
    case HARD_SIGMOID: return NAME(clip)(x * (REAL)0.2 + (REAL)0.5, 0, 1);
    case KERAS3_HARD_SIGMOID: return NAME(clip)(x * (REAL)(1 / 6.0) + (REAL)0.5, 0, 1);
    case RELU: return NAME(choose)(x <= zero, zero, x);
    case RELU6: return NAME(clip)(x, 0, 6);
    case LEAKY_RELU: return NAME(choose)(x < zero, x * (REAL)0.20000000298023224, x);
    case ELU: return NAME(elu)(x, 1, 1);
    case SELU: return NAME(elu)(x, (REAL)1.6732632423543772, (REAL)1.0507009873554805);
    case SOFTSIGN: return x / (NAME(choose)(x < zero, -x, x) + 1);
    default: return x;
    }
}

/* Add rows of a, by weights `[depth, GATES, LANES]` of one panel or two, to sums of vectors; ask for
 * the weights that follow `ahead` numbers behind, unless that is 0. */
INLINE void NAME(accumulate)(V *sums, const int rows, const int vectors, const REAL *a,
                             ptrdiff_t stride, const REAL *weights, ptrdiff_t panel, ptrdiff_t depth,
                             const int gates, ptrdiff_t ahead) {
    for (ptrdiff_t k = 0; k < depth; k++) {
        V w[8];
        for (int g = 0; ahead && g < gates; g++)
            __builtin_prefetch(weights + (k * gates + g) * LANES + ahead, 0, 2);
        for (int g = 0; g < vectors; g++)
            w[g] = NAME(load)(weights + (g / gates) * panel + (k * gates + g % gates) * LANES);
        for (int r = 0; r < rows; r++) {
            V one = NAME(all)(a[r * stride + k]);
            for (int g = 0; g < vectors; g++) sums[r * vectors + g] += one * w[g];
        }
    }
}

/* The gates of some units for one row become their c and m; see `reference_step.py`. Quotients of
 * tanh and sigmoid are taken at once. */
INLINE void NAME(gates)(const struct steps *s, const V *z, ptrdiff_t t, ptrdiff_t row,
                        ptrdiff_t panel, REAL *m_to, ptrdiff_t m_stride, const int gates,
                        const int is_standard) {
    const ptrdiff_t at = panel * LANES, units = s->units, count = units - at;
    REAL *c_at = (REAL *)s->c + row * s->padded + at;
    const REAL *peepholes = s->peepholes;
    V c = NAME(load)(c_at), m, e;
    V i = z[0], j = z[gates - 3], f = z[gates - 2] + (REAL)s->forget_bias, o = z[gates - 1];
    if (peepholes) {
        i += NAME(load)(peepholes + at) * c;
        f += NAME(load)(peepholes + s->padded + at) * c;
    }
    if (is_standard) {
        V divisor = NAME(sigmoid_d)(f);
        e = NAME(tanh_e)(j);
        if (gates == 4)
            c = e / ((e + 2) * NAME(sigmoid_d)(i)) + c / divisor;
        else
            c = (1 - 1 / divisor) * (e / (e + 2)) + c / divisor;
    } else {
        f = NAME(apply)(s->recurrent_activation, f);
        i = gates == 4 ? NAME(apply)(s->recurrent_activation, i) : 1 - f;
        j = NAME(apply)(s->candidate, j);
        c = i * j + f * c;
    }
    if (s->has_cell_clip) c = NAME(clip)(c, (REAL)-s->cell_clip, (REAL)s->cell_clip);
    if (peepholes) o += NAME(load)(peepholes + 2 * s->padded + at) * c;
    if (is_standard) {
        e = NAME(tanh_e)(c);
        m = e / ((e + 2) * NAME(sigmoid_d)(o));
    } else {
        o = NAME(apply)(s->recurrent_activation, o);
        m = o * NAME(apply)(s->activation, c);
    }
    if (s->keeps) {
        if (is_standard) {
            f = NAME(apply)(SIGMOID, f), o = NAME(apply)(SIGMOID, o), j = NAME(apply)(TANH, j);
            i = gates == 4 ? NAME(apply)(SIGMOID, i) : 1 - f;
        }
        const V kept[5] = {i, j, f, o, c};
        for (int k = 0; k < 5; k++)
            if (s->kept[k])
                NAME(store)((REAL *)s->kept[k] + (t * s->batch + row) * units + at, kept[k], count);
    }
    *(NAME(loose) *)c_at = c;
    NAME(store)(m_to + row * m_stride + at, m, count);
}

/* What becomes of the sums of a tile. */
enum { NAME(INPUT), NAME(GATES), NAME(STANDARD), NAME(PROJECT) };

struct NAME(product) {
    const REAL *a, *weights;
    ptrdiff_t stride, depth, t;
    REAL *z;             /* rows of padded sums: INPUT fills them, GATES begins with them */
    REAL *to;            /* m, or the projected m */
    ptrdiff_t to_stride; /* of its rows */
};

/* One tile of a product: rows of a, by one panel or two of the weights, for some of the depth. */
INLINE void NAME(tile)(const struct steps *s, const struct NAME(product) *p, const int kind,
                       const int rows, const int panels, const int gates, ptrdiff_t row,
                       ptrdiff_t panel, ptrdiff_t begin, ptrdiff_t end, const ptrdiff_t ahead) {
    const int vectors = panels * gates, starts = begin == 0, ends = end == p->depth;
    const ptrdiff_t wide = gates * LANES, size = p->depth * wide;
    V sums[ROWS * 4 > 8 ? ROWS * 4 : 8];
    for (int r = 0; r < rows; r++)
        for (int g = 0; g < vectors; g++) {
            V first = {0};
            if (kind == NAME(INPUT) && starts)
                first = NAME(load)((const REAL *)s->bias + panel * wide + g * LANES);
            else if (kind != NAME(PROJECT))
                first = NAME(load)(p->z + (row + r) * s->columns + panel * wide + g * LANES);
            sums[r * vectors + g] = first;
        }
    NAME(accumulate)(sums, rows, vectors, p->a + row * p->stride + begin, p->stride,
                     p->weights + panel * size + begin * wide, size, end - begin, gates, ahead);
    for (int r = 0; r < rows; r++)
        for (int g = 0; g < vectors; g += gates) {
            const V *z = sums + r * vectors + g;
            const ptrdiff_t here = panel + g / gates;
            if (kind == NAME(INPUT) || (kind != NAME(PROJECT) && !ends)) {
                for (int k = 0; k < gates; k++)
                    *(NAME(loose) *)(p->z + (row + r) * s->columns + here * wide + k * LANES) = z[k];
            } else if (kind == NAME(PROJECT)) {
                for (int k = 0; k < gates; k++) {
                    ptrdiff_t at = here * wide + k * LANES;
                    V m = z[k];
                    if (s->has_proj_clip) m = NAME(clip)(m, (REAL)-s->proj_clip, (REAL)s->proj_clip);
                    if (at < s->width) NAME(store)(p->to + (row + r) * p->to_stride + at, m, s->width - at);
                }
            } else {
                NAME(gates)(s, z, p->t, row + r, here, p->to, p->to_stride, gates, kind == NAME(STANDARD));
            }
        }
}

/* Some rows by some panels. Sums run over the depth in its order, however the tiles are cut. The
 * weights of a part of the depth stay in the nearest cache while all rows are multiplied. */
INLINE void NAME(multiply)(const struct steps *s, const struct NAME(product) *p, const int kind,
                           const int gates, const struct share *share) {
    const ptrdiff_t rows = (share->to_row - share->row) * share->times, first = share->panel, stop = share->to_panel;
    const ptrdiff_t cached = kind == NAME(PROJECT) || rows <= ROWS ? p->depth : CACHED / (gates * BYTES);
    const int by_two = rows == 1;
    const ptrdiff_t groups = by_two ? (stop - first + 1) / 2 : stop - first;
    for (ptrdiff_t group = 0; group < groups; group++) {
        /* Every other step goes back: the weights that it begins with are in the caches. */
        ptrdiff_t place = p->t & 1 ? groups - 1 - group : group, panel = first + (by_two ? 2 * place : place);
        if (by_two && panel + 1 < stop) {
            NAME(tile)(s, p, kind, 1, 2, gates, share->row, panel, 0, p->depth, 0);
            continue;
        }
        ptrdiff_t k = 0;
        do {
            ptrdiff_t end = p->depth - k > cached ? k + cached : p->depth;
            for (ptrdiff_t time = 0; time < share->times; time++) {
                ptrdiff_t row = share->row + time * s->batch, to = share->to_row + time * s->batch;
                ptrdiff_t ahead = time + 1 == share->times ? (end - k) * gates * LANES : 0;
                for (ptrdiff_t left; (left = to - row) > 0;) {
                    if (left >= 2 * ROWS)
                        NAME(tile)(s, p, kind, ROWS, 1, gates, row, panel, k, end, 0), row += ROWS;
                    else if (left >= ROWS && left != 4)
                        NAME(tile)(s, p, kind, ROWS, 1, gates, row, panel, k, end, ahead), row += ROWS;
                    else if (ROWS > 4 && left >= 4)
                        NAME(tile)(s, p, kind, 4, 1, gates, row, panel, k, end, 0), row += 4;
                    else if (left >= 2)
                        NAME(tile)(s, p, kind, 2, 1, gates, row, panel, k, end, 0), row += 2;
                    else
                        NAME(tile)(s, p, kind, 1, 1, gates, row, panel, k, end, 0), row += 1;
                }
            }
            k = end;
        } while (k < p->depth);
    }
}

static void NAME(any)(const struct steps *s, const struct NAME(product) *p, int kind, const struct share *share) {
    if (kind == NAME(PROJECT)) NAME(multiply)(s, p, NAME(PROJECT), 4, share);
    else if (kind == NAME(STANDARD) && s->gates == 4) NAME(multiply)(s, p, NAME(STANDARD), 4, share);
    else if (kind == NAME(STANDARD)) NAME(multiply)(s, p, NAME(STANDARD), 3, share);
    else if (kind == NAME(INPUT) && s->gates == 4) NAME(multiply)(s, p, NAME(INPUT), 4, share);
    else if (kind == NAME(INPUT)) NAME(multiply)(s, p, NAME(INPUT), 3, share);
    else if (s->gates == 4) NAME(multiply)(s, p, NAME(GATES), 4, share);
    else NAME(multiply)(s, p, NAME(GATES), 3, share);
}

/* All steps, for this thread's share of the rows, or of the panels. */
static void NAME(run)(struct steps *s, int thread) {
    const ptrdiff_t panels = s->padded / LANES, narrow = (s->width + 4 * LANES - 1) / (4 * LANES), batch = s->batch;
    struct share mine = share_of(s, batch, panels, thread), projected = share_of(s, batch, narrow, thread);
    const REAL *m = s->m;
    for (ptrdiff_t begin = 0; begin < s->steps; begin += s->chunk) {
        ptrdiff_t steps = s->steps - begin < s->chunk ? s->steps - begin : s->chunk;
        struct NAME(product) input = {
            .a = (const REAL *)s->x + begin * batch * s->inputs, .weights = s->kernel,
            .stride = s->inputs, .depth = s->inputs, .z = s->z};
        struct share at_once = mine;
        if (s->by_rows) at_once.times = steps;
        else at_once.to_row *= steps; /* rows of all steps, one after another */
        NAME(any)(s, &input, NAME(INPUT), &at_once);
        for (ptrdiff_t t = begin; t < begin + steps; t++) {
            REAL *out = (REAL *)s->outputs + t * batch * s->width;
            struct NAME(product) gates = {
                .a = m, .weights = s->recurrent, .stride = s->width, .depth = s->width, .t = t,
                .z = (REAL *)s->z + (t - begin) * batch * s->columns,
                .to = s->projection ? s->unprojected : out,
                .to_stride = s->projection ? s->units : s->width};
            NAME(any)(s, &gates, s->is_standard ? NAME(STANDARD) : NAME(GATES), &mine);
            meet(s);
            if (s->projection) {
                struct NAME(product) project = {
                    .a = s->unprojected, .weights = s->projection, .stride = s->units,
                    .depth = s->units, .t = t, .to = out, .to_stride = s->width};
                NAME(any)(s, &project, NAME(PROJECT), &projected);
                meet(s);
            }
            m = out;
        }
    }
}

#undef V
#undef BITS
#undef LANES
#undef REAL
#undef WHOLE
#undef BYTES
#undef ROWS
#undef NAME
