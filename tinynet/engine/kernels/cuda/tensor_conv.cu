// Convolution and its gradients on tensor cores: the three products of conv.cu, whose letters these
// are, for groups and dilation 1 and channels in whole pieces of 16 bytes (N_CHANNELS, N_FILTERS).
//
//   forward          z (M, K)  = P (M, R) w (R, K)
//   input gradient   dx (M, C) = Q (M, S) v (S, C)
//   weight gradient  dw (R, K) = P^T (R, M) dz (M, K)
//
// ACT bf16: x, z and their gradients are bf16, filters are rounded to bf16 once, beforehand. ACT float:
// all are float, and rounded to TF32 on the way to the tensor cores. Sums, bias and dw are float.
//
// A block makes BLOCK_M x BLOCK_N numbers of a product, its WARPS_M x WARPS_N warps a rectangle of them
// each, in registers. PIECES pieces of 16 bytes of each row (DEPTH numbers) come to shared memory at a
// time; STAGES such loads are under way or in use, so that memory is waited for while the tensor cores
// work. No patch is stored in global memory: the copies pick its pieces out of the image, zeros outside.
// A first layer's image, of fewer channels than a piece has, is copied once, with zeros behind them.
//
//   shared memory   a stage is [BLOCK_M + BLOCK_N rows][PIECES]; pieces of a row change places
//                   (place()), so that the eight rows an ldmatrix reads lie in eight groups of banks.
//                   The weight gradient has its depth along M: [DEPTH rows][BLOCK_M], [DEPTH][BLOCK_N].
//   stride          the input gradient makes the cells of each remainder (h mod s, w mod s) by
//                   themselves, blockIdx.z: those have the same taps, and no zeros are multiplied.
//   pool            with POOL the rows are ordered by windows, four rows to each.
//
// What to expect of bf16 at 128 x 128 x 64, 2 x 2 warps of 64 x 64, 3 stages: 96 KB and 128 threads with
// 230 to 240 registers each (ptxas, no spills), so 2 blocks on an SM of Hopper (228 KB), 1 of Ampere.
// At 128 x 64, 4 warps of 32 x 64: 72 KB, 165 registers, 3 blocks.
// Arithmetic to a byte from L2: 128 * 128 * 2 / (256 * 2) = 64 operations, 15 TB/s would be needed at
// Hopper's full rate, hence tiles that share rows run one after the other. To a byte from shared memory:
// 32, where full rate takes 4096 operations against 128 bytes a cycle, also 32; with warps of 64 x 32 it
// is 21. mma.sync reaches about 62% of Hopper's rate in others' measurements (wgmma is what reaches the
// rest), so 45 to 55% of the floor is expected of a large layer, less where K or C is under 128: at
// K = 64 shared memory allows 21 operations to a byte. None of this is measured yet.
//
// Sums are as exact as the tensor cores', which cut off rather than round: a weight gradient's are over
// `each` positions, and the parts are added up in float afterwards, in their order.
//
// -D ACT, REAL (float), the geometry as conv.cu: N_CHANNELS, N_FILTERS, HEIGHT, WIDTH, OUT_H, OUT_W,
// KERNEL_H, KERNEL_W, STRIDE_H, STRIDE_W, TOP, LEFT; POOL (0 or 1); and BLOCK_M, BLOCK_N, WARPS_M,
// WARPS_N, PIECES (4 or 8), STAGES.

#include "each_number.cuh"
#include "bf16.cuh"
#include "pipeline.cuh"
#include "tensor_core.cuh"

constexpr int PIECE = 16 / sizeof(ACT), DEPTH = PIECES * PIECE;  // numbers
constexpr int THREADS = 32 * WARPS_M * WARPS_N;
constexpr int WARP_M = BLOCK_M / WARPS_M, WARP_N = BLOCK_N / WARPS_N;
constexpr int TALL = WARP_M / 16, WIDE = WARP_N / 8;  // a warp's products of 16 x 8
constexpr int STAGE = (BLOCK_M + BLOCK_N) * PIECES;   // pieces
constexpr int TAPS = KERNEL_H * KERNEL_W, NO_WINNER = 4;

static_assert(PIECES == 4 || PIECES == 8, "place() is made for these");
static_assert(WARP_M % 16 == 0 && WARP_N % 16 == 0, "a warp loads 16 rows at once");
static_assert(STAGES >= 2 && THREADS % PIECES == 0, "a thread's piece of a row is always the same");
static_assert(BLOCK_M * PIECES % THREADS == 0 && BLOCK_N * PIECES % THREADS == 0, "whole rounds");
static_assert(N_CHANNELS % PIECE == 0 && N_FILTERS % PIECE == 0, "a piece is of one tap");

typedef float Sums[TALL][WIDE][4];

// A tap of the filter and a channel: where a thread is on its way along the depth.
struct Tap {
    int i, j, c;

    template <int DEEP>
    __device__ __forceinline__ void advance(int by, int across) {
        c += by;
        while (c >= DEEP) {
            c -= DEEP;
            if (++j == across) j = 0, ++i;
        }
    }
};

// Which taps a product has: i = first_i + step_i t for t = 0 ... down - 1, and the same across.
struct Taps {
    int down, across, first_i, first_j, step_i, step_j;
};

// An image and a cell of it, which may lie outside.
struct Cell {
    int n, row, column;
};

// Where piece `piece` of a row lies in shared memory.
__device__ __forceinline__ int place(int row, int piece) {
    return row * PIECES + (piece ^ (row * PIECES / 8 % PIECES));
}

// sum += the block's rows of a times its rows of b, both along the depth of one stage.
__device__ __forceinline__ void multiply_stage(const uint4* a, const uint4* b, Sums& sum) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int top = warp / WARPS_N * WARP_M, side = warp % WARPS_N * WARP_N;
#pragma unroll
    for (int step = 0; step < PIECES; step += 2) {
        unsigned left[TALL][4], right[WIDE / 2][4];
#pragma unroll
        for (int i = 0; i < TALL; i++) {
            load_matrices(left[i], a + place(top + i * 16 + lane % 16, step + lane / 16));
            round_operands(ACT(), left[i]);
        }
#pragma unroll
        for (int j = 0; j < WIDE / 2; j++)
            load_matrices(right[j], b + place(side + j * 16 + lane / 16 * 8 + lane % 8,
                                              step + lane / 8 % 2));
#pragma unroll
        for (int i = 0; i < TALL; i++)
#pragma unroll
            for (int j = 0; j < WIDE; j++)
                multiply(ACT(), sum[i][j], left[i], right[j / 2][j % 2 * 2],
                         right[j / 2][j % 2 * 2 + 1]);
    }
}

// sum += rows of patches times filters (columns, TAPS, DEEP), for a block's tile at (top, side).
// Row m of the patches is cell(m) + sign (i, j), channel c, of image (n, HIGH, BROAD, DEEP).
template <int HIGH, int BROAD, int DEEP, int SIGN, int COLUMNS, class CellOf>
__device__ __forceinline__ void product(const ACT* image, const ACT* filters, const Taps& taps,
                                        int rows, int top, int side, const CellOf& cell, Sums& sum) {
    constexpr int EACH_A = BLOCK_M * PIECES / THREADS, EACH_B = BLOCK_N * PIECES / THREADS;
    constexpr int STEP = THREADS / PIECES, FAR = -(1 << 30);
    const int piece = threadIdx.x % PIECES, first = threadIdx.x / PIECES;
    int pixel[EACH_A], row[EACH_A], column[EACH_A];
#pragma unroll
    for (int e = 0; e < EACH_A; e++) {
        const int m = top + first + e * STEP;
        pixel[e] = column[e] = 0, row[e] = FAR;
        if (m < rows) {
            const Cell at = cell(m);
            row[e] = at.row, column[e] = at.column;
            pixel[e] = (at.n * HIGH + at.row) * BROAD + at.column;
        }
    }
    Tap tap{0, 0, 0};
    tap.advance<DEEP>(piece * PIECE, taps.across);
    const auto load = [&](int stage) {
        uint4* const a = dynamic_shared + stage * STAGE;
        uint4* const b = a + BLOCK_M * PIECES;
        const bool deep_enough = tap.i < taps.down;
        const int down = SIGN * tap.i, across = SIGN * tap.j;
#pragma unroll
        for (int e = 0; e < EACH_A; e++) {
            const bool inside = deep_enough && unsigned(row[e] + down) < unsigned(HIGH) &&
                                unsigned(column[e] + across) < unsigned(BROAD);
            const Index at = Index(pixel[e] + down * BROAD + across) * DEEP + tap.c;
            copy_16(a + place(first + e * STEP, piece), image + (inside ? at : 0), inside);
        }
        const int i = taps.first_i + tap.i * taps.step_i, j = taps.first_j + tap.j * taps.step_j;
        const int along = (i * KERNEL_W + j) * DEEP + tap.c;
#pragma unroll
        for (int e = 0; e < EACH_B; e++) {
            const int k = side + first + e * STEP;
            const bool inside = deep_enough && k < COLUMNS;
            const Index at = Index(k) * (TAPS * DEEP) + along;
            copy_16(b + place(first + e * STEP, piece), filters + (inside ? at : 0), inside);
        }
        tap.advance<DEEP>(DEPTH, taps.across);
    };
    const int loads = (taps.down * taps.across * DEEP + DEPTH - 1) / DEPTH;
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < loads) load(s);
        close_group();  // an empty one counts as well
    }
    for (int s = 0; s < loads; s++) {
        wait_for_all_but<STAGES - 2>();
        __syncthreads();  // load s is there, and all have done with load s - 1, which is overwritten
        if (s + STAGES - 1 < loads) load((s + STAGES - 1) % STAGES);
        close_group();
        const uint4* a = dynamic_shared + s % STAGES * STAGE;
        multiply_stage(a, a + BLOCK_M * PIECES, sum);
    }
    wait_for_all_but<0>();
    __syncthreads();  // from here on shared memory is free
}

struct alignas(2 * sizeof(ACT)) Pair {
    ACT first, second;
};

constexpr int LINE = BLOCK_N + PIECE;  // of a result in shared memory; the 16 bytes part the banks

// The block's numbers, finish(column, sum), as ACT in shared memory [BLOCK_M][LINE].
template <class Finish>
__device__ __forceinline__ ACT* laid_out(const Sums& sum, const Finish& finish) {
    ACT* const lines = reinterpret_cast<ACT*>(dynamic_shared);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int top = warp / WARPS_N * WARP_M, side = warp % WARPS_N * WARP_N;
#pragma unroll
    for (int i = 0; i < TALL; i++)
#pragma unroll
        for (int j = 0; j < WIDE; j++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int row = top + i * 16 + half * 8 + lane / 4, k = side + j * 8 + lane % 4 * 2;
                const Pair two{ACT(finish(k, sum[i][j][half * 2])),
                               ACT(finish(k + 1, sum[i][j][half * 2 + 1]))};
                *reinterpret_cast<Pair*>(lines + row * LINE + k) = two;
            }
    __syncthreads();
    return lines;
}

// Those lines to global memory, `columns` numbers a row; row m goes to the row address(m).
template <int COLUMNS, class Address>
__device__ __forceinline__ void keep(const ACT* lines, int rows, int top, int side, ACT* to,
                                     const Address& address) {
    constexpr int ACROSS = BLOCK_N / PIECE;
    for (int q = threadIdx.x; q < BLOCK_M * ACROSS; q += THREADS) {
        const int row = q / ACROSS, k = q % ACROSS * PIECE;
        if (top + row < rows && side + k < COLUMNS)
            *reinterpret_cast<uint4*>(to + address(top + row) * COLUMNS + side + k) =
                *reinterpret_cast<const uint4*>(lines + row * LINE + k);
    }
}

struct alignas(16) Numbers {
    ACT of[PIECE];
};
struct alignas(PIECE) Bytes {
    unsigned char of[PIECE];
};

// The largest of each four rows, which are max{z, 0} already, and which of them it was.
__device__ __forceinline__ void keep_pooled(const ACT* lines, int rows, int top, int side, ACT* y,
                                            unsigned char* winner) {
    constexpr int ACROSS = BLOCK_N / PIECE;
    for (int q = threadIdx.x; q < BLOCK_M / 4 * ACROSS; q += THREADS) {
        const int row = q / ACROSS * 4, k = q % ACROSS * PIECE;
        if (top + row >= rows || side + k >= N_FILTERS) continue;
        Numbers best{};
        Bytes who;
#pragma unroll
        for (int p = 0; p < PIECE; p++) who.of[p] = NO_WINNER;
#pragma unroll
        for (int cell = 0; cell < 4; cell++) {
            const Numbers here =
                *reinterpret_cast<const Numbers*>(lines + (row + cell) * LINE + k);
#pragma unroll
            for (int p = 0; p < PIECE; p++) {
                const float r = here.of[p];
                if (r > float(best.of[p])) best.of[p] = here.of[p], who.of[p] = cell;
                if (r != r) best.of[p] = here.of[p];  // nothing is larger than a NaN
            }
        }
#pragma unroll
        for (int p = 0; p < PIECE; p++)  // a NaN is not > 0: nobody has won
            if (float(best.of[p]) != float(best.of[p])) who.of[p] = NO_WINNER;
        const Index at = Index((top + row) / 4) * N_FILTERS + side + k;
        *reinterpret_cast<Numbers*>(y + at) = best;
        *reinterpret_cast<Bytes*>(winner + at) = who;
    }
}

// z = P w + b, with relu max{z, 0}, and with POOL the maxima of 2 x 2 of those and their winners.
// filters (K, TAPS, C).  Grid: tiles of (n OUT_H OUT_W, K), those of one row after each other.
extern "C" __global__ void __launch_bounds__(THREADS) tensor_forward(
    const ACT* x, const ACT* filters, const REAL* b, ACT* z, unsigned char* winner, int n,
    int has_bias, int relu) {
    constexpr int TILES = (N_FILTERS + BLOCK_N - 1) / BLOCK_N;
    constexpr int HIGH = POOL ? OUT_H / 2 : OUT_H, BROAD = POOL ? OUT_W / 2 : OUT_W;
    const int rows = n * HIGH * BROAD * (POOL ? 4 : 1);
    const int top = blockIdx.x / TILES * BLOCK_M, side = blockIdx.x % TILES * BLOCK_N;
    Sums sum = {};
    product<HEIGHT, WIDTH, N_CHANNELS, 1, N_FILTERS>(
        x, filters, Taps{KERNEL_H, KERNEL_W, 0, 0, 1, 1}, rows, top, side,
        [=](int m) {
            const int at = POOL ? m / 4 : m, inside = at % (HIGH * BROAD);
            const int down = inside / BROAD, across = inside % BROAD;
            const int row = POOL ? 2 * down + m % 4 / 2 : down;
            const int column = POOL ? 2 * across + m % 2 : across;
            return Cell{at / (HIGH * BROAD), row * STRIDE_H - TOP, column * STRIDE_W - LEFT};
        },
        sum);
    const ACT* lines = laid_out(sum, [=](int k, float total) {
        if (has_bias && side + k < N_FILTERS) total += b[side + k];
        if (relu) total = total <= 0 ? 0.f : total;  // this way round NaN stays
        return total;
    });
    if (POOL)
        keep_pooled(lines, rows, top, side, z, winner);
    else
        keep<N_FILTERS>(lines, rows, top, side, z, [](int m) { return Index(m); });
}

// dx = Q v, of the cells (h, w) with h mod s = blockIdx.z / s, w mod s = blockIdx.z % s.
// filters (C, TAPS, K).  Grid: tiles of (the cells of the first of these remainders, C), s s.
extern "C" __global__ void __launch_bounds__(THREADS) tensor_input_gradient(
    const ACT* dz, const ACT* filters, ACT* dx, int n) {
    constexpr int TILES = (N_CHANNELS + BLOCK_N - 1) / BLOCK_N;
    const int h0 = blockIdx.z / STRIDE_W, w0 = blockIdx.z % STRIDE_W;
    const int high = (HEIGHT - h0 + STRIDE_H - 1) / STRIDE_H;
    const int broad = (WIDTH - w0 + STRIDE_W - 1) / STRIDE_W;
    const int rows = n * high * broad;
    const int top = blockIdx.x / TILES * BLOCK_M, side = blockIdx.x % TILES * BLOCK_N;
    if (top >= rows) return;
    // Cell h = h0 + s a is under tap i of window y where h + TOP = y s + i: the taps i0 + s t, each with
    // y = a + e - t.
    const int i0 = (h0 + TOP) % STRIDE_H, j0 = (w0 + LEFT) % STRIDE_W;
    const int e = (h0 + TOP) / STRIDE_H, f = (w0 + LEFT) / STRIDE_W;
    const Taps taps{i0 < KERNEL_H ? (KERNEL_H - i0 + STRIDE_H - 1) / STRIDE_H : 0,
                    j0 < KERNEL_W ? (KERNEL_W - j0 + STRIDE_W - 1) / STRIDE_W : 0,
                    i0, j0, STRIDE_H, STRIDE_W};
    Sums sum = {};
    if (taps.down && taps.across)
        product<OUT_H, OUT_W, N_FILTERS, -1, N_CHANNELS>(
            dz, filters, taps, rows, top, side,
            [=](int m) {
                const int inside = m % (high * broad);
                return Cell{m / (high * broad), inside / broad + e, inside % broad + f};
            },
            sum);
    const ACT* lines = laid_out(sum, [](int, float total) { return total; });
    keep<N_CHANNELS>(lines, rows, top, side, dx, [=](int m) {
        const int image = m / (high * broad), inside = m % (high * broad);
        const int h = h0 + inside / broad * STRIDE_H, w = w0 + inside % broad * STRIDE_W;
        return (Index(image) * HEIGHT + h) * WIDTH + w;
    });
}

// Where piece `piece` of a row of ACROSS pieces lies, where rows are depths: eight neighbouring rows
// (bf16, an ldmatrix), or four of eight numbers each (TF32, a fragment), lie in all groups of banks.
template <int ACROSS>
__device__ __forceinline__ int place_turned(int depth, int piece) {
    static_assert((ACROSS & (ACROSS - 1)) == 0, "or the pieces would leave their row");
    const int swap = sizeof(ACT) == 4 ? depth * 2 : ACROSS < 8 ? depth * ACROSS / 8 : depth % 8;
    return depth * ACROSS + (piece ^ (swap % (sizeof(ACT) == 4 && ACROSS > 8 ? 8 : ACROSS)));
}

// sum += a^T b, a (DEPTH, BLOCK_M) and b (DEPTH, BLOCK_N) of one stage.
__device__ __forceinline__ void multiply_stage_turned(const uint4* a, const uint4* b, Sums& sum) {
    constexpr int ACROSS_A = BLOCK_M / PIECE, ACROSS_B = BLOCK_N / PIECE, ONE = 2 * PIECE;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int top = warp / WARPS_N * WARP_M, side = warp % WARPS_N * WARP_N;
#pragma unroll
    for (int d = 0; d < DEPTH; d += ONE) {
        unsigned left[TALL][4], right[WIDE / 2][4];
        if constexpr (sizeof(ACT) == 2) {
#pragma unroll
            for (int i = 0; i < TALL; i++)
                load_matrices_turned(
                    left[i], a + place_turned<ACROSS_A>(d + lane / 16 * 8 + lane % 8,
                                                        (top + i * 16) / PIECE + lane / 8 % 2));
#pragma unroll
            for (int j = 0; j < WIDE / 2; j++)
                load_matrices_turned(
                    right[j], b + place_turned<ACROSS_B>(d + lane / 8 % 2 * 8 + lane % 8,
                                                         (side + j * 16) / PIECE + lane / 16));
        } else {  // ldmatrix turns numbers of 16 bits only
            const int g = lane / 4, t = lane % 4;
#pragma unroll
            for (int r = 0; r < 4; r++) {
#pragma unroll
                for (int i = 0; i < TALL; i++) {
                    const int m = top + i * 16 + r % 2 * 8 + g;
                    left[i][r] = tf32(reinterpret_cast<const float*>(
                        a + place_turned<ACROSS_A>(d + r / 2 * 4 + t, m / 4))[m % 4]);
                }
#pragma unroll
                for (int j = 0; j < WIDE / 2; j++) {
                    const int k = side + j * 16 + r / 2 * 8 + g;
                    right[j][r] = tf32(reinterpret_cast<const float*>(
                        b + place_turned<ACROSS_B>(d + r % 2 * 4 + t, k / 4))[k % 4]);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < TALL; i++)
#pragma unroll
            for (int j = 0; j < WIDE; j++)
                multiply(ACT(), sum[i][j], left[i], right[j / 2][j % 2 * 2],
                         right[j / 2][j % 2 * 2 + 1]);
    }
}

// parts[part] (R, K) = P^T dz over the positions part * each ... of n OUT_H OUT_W.
// Grid: tiles of (R, K), 1, parts.
extern "C" __global__ void __launch_bounds__(THREADS) tensor_weight_gradient(
    const ACT* x, const ACT* dz, REAL* parts, int n, int each) {
    constexpr int TILES = (N_FILTERS + BLOCK_N - 1) / BLOCK_N, ROWS = TAPS * N_CHANNELS;
    constexpr int ACROSS_A = BLOCK_M / PIECE, ACROSS_B = BLOCK_N / PIECE;
    constexpr int STEP_A = THREADS / ACROSS_A, STEP_B = THREADS / ACROSS_B;
    static_assert(THREADS % ACROSS_A == 0 && THREADS % ACROSS_B == 0 && DEPTH % STEP_A == 0 &&
                      DEPTH % STEP_B == 0,
                  "a thread copies one piece of each of its rows");
    const int top = blockIdx.x / TILES * BLOCK_M, side = blockIdx.x % TILES * BLOCK_N;
    const int positions = n * OUT_H * OUT_W, start = blockIdx.z * each;
    const int last = each < positions - start ? start + each : positions;

    // this thread's tap and channels, and its filters
    const int piece_a = threadIdx.x % ACROSS_A, first_a = threadIdx.x / ACROSS_A;
    const int piece_b = threadIdx.x % ACROSS_B, first_b = threadIdx.x / ACROSS_B;
    const int r = top + piece_a * PIECE, k = side + piece_b * PIECE;
    const int c = r % N_CHANNELS, down = r / N_CHANNELS / KERNEL_W - TOP;
    const int across = r / N_CHANNELS % KERNEL_W - LEFT;
    const auto load = [&](int number) {
        uint4* const a = dynamic_shared + number % STAGES * STAGE;
        uint4* const b = a + DEPTH * ACROSS_A;
        const int from = start + number * DEPTH;
#pragma unroll
        for (int d = first_a; d < DEPTH; d += STEP_A) {
            const int m = from + d, image = m / (OUT_H * OUT_W), inside = m % (OUT_H * OUT_W);
            const int row = inside / OUT_W * STRIDE_H + down;
            const int column = inside % OUT_W * STRIDE_W + across;
            const bool there = m < last && r < ROWS && unsigned(row) < unsigned(HEIGHT) &&
                               unsigned(column) < unsigned(WIDTH);
            const Index at = ((Index(image) * HEIGHT + row) * WIDTH + column) * N_CHANNELS + c;
            copy_16(a + place_turned<ACROSS_A>(d, piece_a), x + (there ? at : 0), there);
        }
#pragma unroll
        for (int d = first_b; d < DEPTH; d += STEP_B) {
            const bool there = from + d < last && k < N_FILTERS;
            const Index at = Index(from + d) * N_FILTERS + k;
            copy_16(b + place_turned<ACROSS_B>(d, piece_b), dz + (there ? at : 0), there);
        }
    };
    Sums sum = {};
    const int loads = (last - start + DEPTH - 1) / DEPTH;
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < loads) load(s);
        close_group();
    }
    for (int s = 0; s < loads; s++) {
        wait_for_all_but<STAGES - 2>();
        __syncthreads();  // as in product()
        if (s + STAGES - 1 < loads) load(s + STAGES - 1);
        close_group();
        const uint4* a = dynamic_shared + s % STAGES * STAGE;
        multiply_stage_turned(a, a + DEPTH * ACROSS_A, sum);
    }
    wait_for_all_but<0>();

    REAL* const dw = parts + Index(blockIdx.z) * ROWS * N_FILTERS;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (int i = 0; i < TALL; i++)
#pragma unroll
        for (int j = 0; j < WIDE; j++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int row = top + warp / WARPS_N * WARP_M + i * 16 + half * 8 + lane / 4;
                const int column = side + warp % WARPS_N * WARP_N + j * 8 + lane % 4 * 2;
                if (row < ROWS && column < N_FILTERS)
                    *reinterpret_cast<float2*>(dw + Index(row) * N_FILTERS + column) =
                        float2{sum[i][j][half * 2], sum[i][j][half * 2 + 1]};
            }
}
