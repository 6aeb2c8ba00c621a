// Convolution of images with few channels, such as a network's first layer (report 2.5.2, 2.5.6).
//
//   z[n, y, x, k]  = b[k] + sum over taps t = (i, j, c) of X[n, y, x, t] w[t, k]
//   dw[t, k]       = sum over n, y, x of X[n, y, x, t] dz[n, y, x, k]
//   X[n, y, x, t]  = x[n, y s + i d - top, x s + j d - left, c], 0 outside the image
//
// A product of matrices (conv.cu) makes 64 taps at a time, of which there are 9 here; and there is so
// little to multiply that what counts is that z is written, and dz read, in whole runs of memory. A
// thread makes EACH neighbouring filters of a position. For dw it keeps TAPS_EACH x EACH sums in
// registers while it goes through positions; a block's threads then add up in a fixed order, and the
// sums of the parts, one a block, are added up afterwards.
//
// Compiled in: ACT, REAL (see bf16.cuh), CHANNELS, FILTERS, HEIGHT, WIDTH, OUT_H, OUT_W, KERNEL_H,
// KERNEL_W, STRIDE_H, STRIDE_W, DILATION_H, DILATION_W, TOP, LEFT, HAS_BIAS, RELU, and EACH (of which
// FILTERS is a multiple), ROWS (positions at a time in a block), TAPS_EACH.

#include "bf16.cuh"
#include "each_number.cuh"

constexpr int TAPS = KERNEL_H * KERNEL_W * CHANNELS, LANES = FILTERS / EACH;

struct alignas(sizeof(ACT) * EACH < 16 ? sizeof(ACT) * EACH : 16) Run {  // moved at once
    ACT value[EACH];
};

struct Position {
    int row, column;  // of the window's first cell
    Index image;      // where the image begins
};

__device__ inline Position position_at(Index position) {
    const Index image = position / (OUT_H * OUT_W);
    const int inside = position % (OUT_H * OUT_W);
    return {inside / OUT_W * STRIDE_H - TOP, inside % OUT_W * STRIDE_W - LEFT,
            image * HEIGHT * WIDTH * CHANNELS};
}

__device__ inline REAL patch(const ACT* x, const Position& at, int tap) {
    const int c = tap % CHANNELS, j = tap / CHANNELS % KERNEL_W, i = tap / (CHANNELS * KERNEL_W);
    const int row = at.row + i * DILATION_H, column = at.column + j * DILATION_W;
    if (row < 0 || row >= HEIGHT || column < 0 || column >= WIDTH) return 0;
    return x[at.image + (row * WIDTH + column) * CHANNELS + c];
}

// z, and max{z, 0} with RELU.
extern "C" __global__ void few_channels_forward(const ACT* x, const REAL* w, const REAL* b, ACT* z,
                                                int n) {
    __shared__ REAL filters[TAPS * FILTERS];
    for (int i = threadIdx.x; i < TAPS * FILTERS; i += blockDim.x) filters[i] = w[i];
    __syncthreads();
    EACH_NUMBER(at, Index(n) * OUT_H * OUT_W * LANES) {
        const int first = at % LANES * EACH;
        const Position place = position_at(at / LANES);
        REAL sum[EACH];
        for (int e = 0; e < EACH; e++) sum[e] = HAS_BIAS ? b[first + e] : REAL(0);
#pragma unroll 9
        for (int tap = 0; tap < TAPS; tap++) {
            const REAL value = patch(x, place, tap);
            for (int e = 0; e < EACH; e++) sum[e] += value * filters[tap * FILTERS + first + e];
        }
        Run run;
        for (int e = 0; e < EACH; e++)
            run.value[e] = RELU && sum[e] <= 0 ? REAL(0) : sum[e];  // this way round NaN stays
        reinterpret_cast<Run*>(z)[at] = run;
    }
}

// dw[part].  Grid: parts, chunks of TAPS_EACH taps. Block: LANES x ROWS.
extern "C" __global__ void few_channels_weight_gradient(const ACT* x, const ACT* dz, REAL* dw, int n,
                                                        int parts) {
    const Index positions = Index(n) * OUT_H * OUT_W, each = (positions + parts - 1) / parts;
    const Index begin = blockIdx.x * each, end = begin + each < positions ? begin + each : positions;
    const int lane = threadIdx.x, first_tap = blockIdx.y * TAPS_EACH;
    REAL sum[TAPS_EACH][EACH] = {};
    for (Index p = begin + threadIdx.y; p < end; p += ROWS) {
        const Run run = reinterpret_cast<const Run*>(dz)[p * LANES + lane];
        const Position place = position_at(p);
#pragma unroll
        for (int t = 0; t < TAPS_EACH; t++) {
            if (first_tap + t >= TAPS) break;
            const REAL value = patch(x, place, first_tap + t);
            for (int e = 0; e < EACH; e++) sum[t][e] += value * REAL(run.value[e]);
        }
    }
    __shared__ REAL of_row[ROWS][FILTERS];
    for (int t = 0; t < TAPS_EACH; t++) {
        for (int e = 0; e < EACH; e++) of_row[threadIdx.y][lane * EACH + e] = sum[t][e];
        __syncthreads();
        const int me = threadIdx.y * LANES + lane;
        if (first_tap + t < TAPS)
            for (int k = me; k < FILTERS; k += ROWS * LANES) {
                REAL total = 0;
                for (int row = 0; row < ROWS; row++) total += of_row[row][k];
                dw[(Index(blockIdx.x) * TAPS + first_tap + t) * FILTERS + k] = total;
            }
        __syncthreads();
    }
}
