// Batch norm over the rows of x (rows, channels), with the ReLU and the max-pool 2x2 that may
// follow (report 2.4.3; the rows are the cells of images where there is a pool).
//
//   mean = (1/m) sum x,  variance = (1/m) sum (x - mean)^2,  inv_std = 1 / sqrt(variance + epsilon)
//   z = gamma (x - mean) inv_std + beta,  y = epilogue(z)
//   dz = the epilogue's gradient of dy,  dbeta = sum dz,  dgamma = sum dz (x - mean) inv_std
//   dx = gamma inv_std (dz - dbeta / m - (x - mean) inv_std dgamma / m)
//
// x is read twice in each direction: once for the sums, once for the result. How rows and channels
// are divided, and in which order sums are made: columns.cuh. x^ = (x - mean) inv_std is not stored
// but computed again.
//
// The variance is taken in one pass by Welford's recurrence, of x less the first row, whose parts
// are merged as Chan, Golub & LeVeque (1983) do. Rounding is in proportion to k = sqrt(1 + (x[0] -
// mean)^2 / variance), about 1, not to mean^2 / variance: the relative error is about k sqrt(n)
// epsilon over the n rows of a thread, some 1e-6 in float.
//
// Compiled in: ACT (float, double or bf16) of x, y, dy and dx; REAL (float or double) of the rest and
// of all arithmetic; EPILOGUE (0 nothing, 1 ReLU, 2 ReLU and pool); HEIGHT and WIDTH of x with a pool;
// FROZEN (1: mean and variance are constants, no gradient leads through them); and what columns.cuh
// asks for.

#include "bf16.cuh"
#include "each_number.cuh"
#include "packs.cuh"
#include "columns.cuh"
#include "epilogue.cuh"

constexpr bool POOL = EPILOGUE == 2;
constexpr int CELLS = POOL ? 4 : 1;  // of x, for one row of y

// Count, mean and sum of squared distances from the mean.
struct Moments {
    REAL count, mean, spread;

    __device__ void take(REAL x, REAL share) {  // share = 1 / count, the new number counted
        const REAL distance = x - mean;
        mean += distance * share;
        spread += distance * (x - mean);
    }
    __device__ void add(const Moments& other) {
        if (other.count == 0) return;
        const REAL sum = count + other.count, distance = other.mean - mean;
        const REAL share = other.count / sum;
        mean += distance * share;
        spread += other.spread + distance * distance * count * share;
        count = sum;
    }
};

// parts (3, chunks, channels): the moments of x - x[0].
extern "C" __global__ void __launch_bounds__(COLUMNS * ROWS) batchnorm_moments(
    const ACT* x, REAL* parts, Index rows, int channels, Index chunk) {
    const Share mine(rows, channels, chunk);
    Moments moments[VEC] = {};
    REAL shift[VEC] = {};
    if (mine.inside) load(x + mine.channel, shift);
    const ACT* from = x + mine.first * channels + mine.channel;
#pragma unroll 4
    for (int t = 0; t < mine.count; t++) {
        REAL number[VEC];
        load(from + t * Index(ROWS) * channels, number);
        const REAL share = REAL(1) / REAL(t + 1);
#pragma unroll
        for (int v = 0; v < VEC; v++) moments[v].take(number[v] - shift[v], share);
    }
    for (int v = 0; v < VEC; v++) moments[v].count = mine.count;
    add_up_rows<COLUMNS, ROWS>(moments);
    if (threadIdx.y || !mine.inside) return;
    const Index plane = Index(gridDim.y) * channels;
    for (int v = 0; v < VEC; v++) {
        REAL* to = parts + Index(blockIdx.y) * channels + mine.channel + v;
        to[0] = moments[v].count;
        to[plane] = moments[v].mean;
        to[2 * plane] = moments[v].spread;
    }
}

// mean, variance, inv_std, and what rounding took from the mean (channels,).
extern "C" __global__ void batchnorm_statistics(const ACT* x, const REAL* parts, REAL* mean,
                                                REAL* variance, REAL* inv_std, REAL* missing,
                                                REAL epsilon, int count, int channels) {
    const int channel = channel_to_finish();
    Moments moments[1] = {};
    const Index plane = Index(count) * channels;
    if (channel < channels)
        for (int part = threadIdx.y; part < count; part += FINISH_ROWS) {
            const REAL* from = parts + Index(part) * channels + channel;
            moments[0].add({from[0], from[plane], from[2 * plane]});
        }
    add_up_rows<FINISH_COLUMNS, FINISH_ROWS>(moments);
    if (threadIdx.y || channel >= channels) return;
    const REAL first = REAL(x[channel]);
    mean[channel] = first + moments[0].mean;
    missing[channel] = moments[0].mean - (mean[channel] - first);
    variance[channel] = moments[0].spread / moments[0].count;
    inv_std[channel] = REAL(1) / sqrt(variance[channel] + epsilon);
}

// inv_std (channels,) of a given variance.
extern "C" __global__ void batchnorm_inv_std(const REAL* variance, REAL* inv_std, REAL epsilon,
                                             int channels) {
    EACH_NUMBER(i, channels) inv_std[i] = REAL(1) / sqrt(variance[i] + epsilon);
}

// Where row number `row` of windows that cover HIGH x WIDE of an image lies; without a pool, the
// row.
template <int HIGH, int WIDE>
struct Cells {
    Index at[CELLS];     // rows of x
    bool inside[CELLS];  // false: below the last line or beyond the last column
    bool whole;          // false: at an odd edge, which no window of the pool covers
    Index output;        // row of y, where whole

    __device__ explicit Cells(Index row) {
        if constexpr (!POOL) {
            at[0] = output = row;
            inside[0] = whole = true;
        } else {
            const Index image = row / (HIGH * WIDE);
            const int a = row / WIDE % HIGH, b = row % WIDE;
            whole = a < HEIGHT / 2 && b < WIDTH / 2;
            output = (image * (HEIGHT / 2) + a) * (WIDTH / 2) + b;
#pragma unroll
            for (int q = 0; q < CELLS; q++) {
                const int line = 2 * a + q / 2, column = 2 * b + q % 2;
                inside[q] = line < HEIGHT && column < WIDTH;
                at[q] = (image * HEIGHT + line) * WIDTH + column;
            }
        }
    }
};

typedef Cells<(POOL ? HEIGHT / 2 : 1), (POOL ? WIDTH / 2 : 1)> Windows;  // of the pool
typedef Cells<(HEIGHT + 1) / 2, (WIDTH + 1) / 2> AllCells;               // and those at odd edges

// y, with a pool winner (rows of y, channels).  `rows` counts rows of y.
extern "C" __global__ void __launch_bounds__(COLUMNS * ROWS) batchnorm_apply(
    const ACT* x, const REAL* gamma, const REAL* beta, const REAL* mean, const REAL* inv_std,
    const REAL* missing, ACT* y, unsigned char* winner, Index rows, int channels, Index chunk) {
    const Share mine(rows, channels, chunk);
    if (!mine.inside) return;
    REAL scale[VEC], shift[VEC], centre[VEC], inverse[VEC];
#pragma unroll
    for (int v = 0; v < VEC; v++) {
        const int c = mine.channel + v;
        scale[v] = gamma[c], centre[v] = mean[c], inverse[v] = inv_std[c];
        shift[v] = beta[c] - scale[v] * (missing[c] * inverse[v]);
    }
#pragma unroll 2
    for (int t = 0; t < mine.count; t++) {
        const Windows cells(mine.first + t * Index(ROWS));
        REAL result[VEC] = {};
        unsigned char number[VEC] = {};
#pragma unroll
        for (int q = 0; q < CELLS; q++) {
            REAL z[VEC];
            load(x + cells.at[q] * channels + mine.channel, z);
#pragma unroll
            for (int v = 0; v < VEC; v++) {
                z[v] = scale[v] * ((z[v] - centre[v]) * inverse[v]) + shift[v];
                if (EPILOGUE) z[v] = relu(z[v]);
                keep_larger(q, z[v], result[v], number[v]);
            }
        }
        const Index to = cells.output * channels + mine.channel;
        store(y + to, result);
        if constexpr (POOL) {
#pragma unroll
            for (int v = 0; v < VEC; v++)
                if (!(result[v] > 0)) number[v] = NO_WINNER;
            store(winner + to, number);
        }
    }
}

// dz of a row's cells: the epilogue's gradient of dy.  times 0 where it is stopped: a NaN is not hidden
__device__ inline void through_epilogue(const ACT* dy, const ACT* y, const unsigned char* winner,
                                    const AllCells& cells, Index channels, int channel,
                                    REAL (&dz)[CELLS][VEC]) {
    REAL d[VEC] = {}, number[VEC] = {};
    const Index from = cells.output * channels + channel;
    if (cells.whole) {
        load(dy + from, d);
        if constexpr (POOL) load(winner + from, number);
        if constexpr (EPILOGUE == 1) load(y + from, number);
    }
#pragma unroll
    for (int q = 0; q < CELLS; q++)
#pragma unroll
        for (int v = 0; v < VEC; v++)
            dz[q][v] = POOL ? d[v] * REAL(number[v] == REAL(q))
                       : EPILOGUE ? d[v] * REAL(number[v] > 0)
                              : d[v];
}

struct Sums {
    REAL dz, dz_x;

    __device__ void add(const Sums& other) { dz += other.dz, dz_x += other.dz_x; }
};

// parts (2, chunks, channels): sum dz, and sum dz (x - mean).
extern "C" __global__ void __launch_bounds__(COLUMNS * ROWS) batchnorm_sums(
    const ACT* dy, const ACT* x, const ACT* y, const unsigned char* winner, const REAL* mean,
    REAL* parts, Index rows, int channels, Index chunk) {
    const Share mine(rows, channels, chunk);
    Sums sums[VEC] = {};
    REAL centre[VEC] = {};
    if (mine.inside)
        for (int v = 0; v < VEC; v++) centre[v] = mean[mine.channel + v];
#pragma unroll 2
    for (int t = 0; t < mine.count; t++) {
        const AllCells cells(mine.first + t * Index(ROWS));
        REAL dz[CELLS][VEC];
        through_epilogue(dy, y, winner, cells, channels, mine.channel, dz);
        if (!cells.whole) continue;
#pragma unroll
        for (int q = 0; q < CELLS; q++) {
            REAL number[VEC];
            load(x + cells.at[q] * channels + mine.channel, number);
#pragma unroll
            for (int v = 0; v < VEC; v++)
                sums[v].add({dz[q][v], dz[q][v] * (number[v] - centre[v])});
        }
    }
    add_up_rows<COLUMNS, ROWS>(sums);
    if (threadIdx.y || !mine.inside) return;
    const Index plane = Index(gridDim.y) * channels;
    for (int v = 0; v < VEC; v++) {
        REAL* to = parts + Index(blockIdx.y) * channels + mine.channel + v;
        to[0] = sums[v].dz;
        to[plane] = sums[v].dz_x;
    }
}

// dgamma, dbeta (channels,).
extern "C" __global__ void batchnorm_gradients(const REAL* parts, const REAL* inv_std, REAL* dgamma,
                                               REAL* dbeta, int count, int channels) {
    const int channel = channel_to_finish();
    Sums sums[1] = {};
    if (channel < channels)
        for (int part = threadIdx.y; part < count; part += FINISH_ROWS) {
            const REAL* from = parts + Index(part) * channels + channel;
            sums[0].add({from[0], from[Index(count) * channels]});
        }
    add_up_rows<FINISH_COLUMNS, FINISH_ROWS>(sums);
    if (threadIdx.y || channel >= channels) return;
    dbeta[channel] = sums[0].dz;
    dgamma[channel] = sums[0].dz_x * inv_std[channel];
}

// dx, of m rows.  `rows` counts rows of x, with a pool windows that cover x.
extern "C" __global__ void __launch_bounds__(COLUMNS * ROWS) batchnorm_input_gradient(
    const ACT* dy, const ACT* x, const ACT* y, const unsigned char* winner, const REAL* gamma,
    const REAL* mean, const REAL* inv_std, const REAL* dgamma, const REAL* dbeta, ACT* dx,
    Index m, Index rows, int channels, Index chunk) {
    const Share mine(rows, channels, chunk);
    if (!mine.inside) return;
    // dx = scale (dz - level - slope (x - centre))
    REAL scale[VEC], level[VEC], slope[VEC], centre[VEC];
#pragma unroll
    for (int v = 0; v < VEC; v++) {
        const int c = mine.channel + v;
        scale[v] = gamma[c] * inv_std[c];
        level[v] = dbeta[c] / REAL(m);
        slope[v] = dgamma[c] / REAL(m) * inv_std[c];
        centre[v] = mean[c];
    }
#pragma unroll 2
    for (int t = 0; t < mine.count; t++) {
        const AllCells cells(mine.first + t * Index(ROWS));
        REAL dz[CELLS][VEC];
        through_epilogue(dy, y, winner, cells, channels, mine.channel, dz);
#pragma unroll
        for (int q = 0; q < CELLS; q++) {
            if (!cells.inside[q]) continue;
            const Index at = cells.at[q] * channels + mine.channel;
            REAL number[VEC];
            if (!FROZEN) load(x + at, number);
#pragma unroll
            for (int v = 0; v < VEC; v++) {
                REAL other = 0;  // what mean and variance pass on
                if (!FROZEN) other = level[v] + slope[v] * (number[v] - centre[v]);
                number[v] = scale[v] * (dz[q][v] - other);
            }
            store(dx + at, number);
        }
    }
}
