// Convolution of images (N, H, W, C) with filters (kernel height, kernel width, C, K), and both of
// its gradients (report 2.5.2, 2.5.6), as three products of matrices. P and Q are never stored: their
// numbers are looked up where they are needed.
//
//   forward          z (M, K)  = P (M, R) w (R, K)      M = window positions (n, y, x)
//   weight gradient  dw (R, K) = P^T (R, M) dz (M, K)   R = taps and channels (i, j, c)
//   input gradient   dx (M, C) = Q (M, S) v (S, C)      M = cells (n, h, w), S = (i, j, k)
//
//   P[(n, y, x), (i, j, c)] = x[n, y s + i d - top, x s + j d - left, c]         0 outside
//   Q[(n, h, w), (i, j, k)] = dz[n, (h + top - i d) / s, (w + left - j d) / s, k]    0 where that
//                             is no whole number, or outside;   v[(i, j, k), c] = w[i, j, c, k]
//
// A block of SIDE x SIDE threads makes TILE x TILE numbers of a product, each thread EACH x EACH of
// them in registers. DEPTH columns of the left matrix, and rows of the right one, are brought to
// shared memory at a time and serve TILE rows and columns. With groups, blockIdx.z is the group, and
// C and K are those of a group.
//
// This is the path for every geometry; it uses no tensor cores (tensor_conv.cu does). x, z and their
// gradients are stored as ACT (float, double or bf16), w, b and dw as REAL (float or double), in which
// everything is multiplied and summed. The geometry is compiled in, so that the divisions by its
// numbers are multiplications: -D ACT, REAL, N_CHANNELS and N_FILTERS (of a group), GROUPS, HEIGHT,
// WIDTH (of x), OUT_H, OUT_W (of z), KERNEL_H, KERNEL_W, STRIDE_H, STRIDE_W, DILATION_H, DILATION_W,
// TOP, LEFT (padding), HAS_BIAS, RELU (0 or 1).

#ifndef SIDE
#define SIDE 16
#endif

constexpr int EACH = 4, TILE = EACH * SIDE, DEPTH = SIDE;
constexpr int ALL_CHANNELS = GROUPS * N_CHANNELS, ALL_FILTERS = GROUPS * N_FILTERS;

#include "each_number.cuh"
#include "bf16.cuh"

// P of one group.
struct Patches {
    const ACT* x;
    int group;

    __device__ REAL operator()(int position, int tap) const {
        const int n = position / (OUT_H * OUT_W), inside = position % (OUT_H * OUT_W);
        const int c = tap % N_CHANNELS, j = tap / N_CHANNELS % KERNEL_W;
        const int i = tap / (N_CHANNELS * KERNEL_W);
        const int row = inside / OUT_W * STRIDE_H + i * DILATION_H - TOP;
        const int column = inside % OUT_W * STRIDE_W + j * DILATION_W - LEFT;
        if (row < 0 || row >= HEIGHT || column < 0 || column >= WIDTH) return 0;
        const Index cell = (Index(n) * HEIGHT + row) * WIDTH + column;
        return x[cell * ALL_CHANNELS + group * N_CHANNELS + c];
    }
};

// Q of one group.
struct Reached {
    const ACT* dz;
    int group;

    __device__ REAL operator()(int cell, int tap) const {
        const int n = cell / (HEIGHT * WIDTH), inside = cell % (HEIGHT * WIDTH);
        const int k = tap % N_FILTERS, j = tap / N_FILTERS % KERNEL_W;
        const int i = tap / (N_FILTERS * KERNEL_W);
        const int down = inside / WIDTH + TOP - i * DILATION_H;
        const int across = inside % WIDTH + LEFT - j * DILATION_W;
        if (down < 0 || across < 0 || down % STRIDE_H || across % STRIDE_W) return 0;
        const int y = down / STRIDE_H, x = across / STRIDE_W;
        if (y >= OUT_H || x >= OUT_W) return 0;
        const Index position = (Index(n) * OUT_H + y) * OUT_W + x;
        return dz[position * ALL_FILTERS + group * N_FILTERS + k];
    }
};

// w (R, K) of one group; and v (S, C), the same numbers in another order.
struct Filters {
    const REAL* w;
    int group;

    __device__ REAL operator()(int tap, int k) const {
        return w[Index(tap) * ALL_FILTERS + group * N_FILTERS + k];
    }
};

struct FiltersBack {
    const REAL* w;
    int group;

    __device__ REAL operator()(int tap, int c) const {
        const int k = tap % N_FILTERS, place = tap / N_FILTERS;
        return w[(Index(place) * N_CHANNELS + c) * ALL_FILTERS + group * N_FILTERS + k];
    }
};

// dz (M, K) of one group, and P turned round, for the weight gradient.
struct Upstream {
    const ACT* dz;
    int group;

    __device__ REAL operator()(int position, int k) const {
        return dz[Index(position) * ALL_FILTERS + group * N_FILTERS + k];
    }
};

struct PatchesBack {
    Patches p;

    __device__ REAL operator()(int tap, int position) const { return p(position, tap); }
};

// sum += left (rows, depth) right (depth, columns), for this thread's EACH x EACH numbers, over the
// depths first ... last - 1. The thread's numbers are SIDE apart, so that a row of threads reads
// neighbours.
template <class Left, class Right>
__device__ void product(const Left& left, const Right& right, int rows, int columns, int first,
                        int last, REAL (&sum)[EACH][EACH]) {
    __shared__ REAL a[DEPTH][TILE + 1], b[DEPTH][TILE + 1];
    const int me = threadIdx.y * SIDE + threadIdx.x;
    const int top = blockIdx.x * TILE, side = blockIdx.y * TILE;
    for (int start = first; start < last; start += DEPTH) {
        for (int q = me; q < TILE * DEPTH; q += SIDE * SIDE) {
            const int d = q % DEPTH, i = q / DEPTH, e = q / TILE, j = q % TILE;
            const bool in_left = top + i < rows && start + d < last;
            const bool in_right = side + j < columns && start + e < last;
            a[d][i] = in_left ? left(top + i, start + d) : REAL(0);
            b[e][j] = in_right ? right(start + e, side + j) : REAL(0);
        }
        __syncthreads();
        for (int d = 0; d < DEPTH; d++)
            for (int i = 0; i < EACH; i++)
                for (int j = 0; j < EACH; j++)
                    sum[i][j] += a[d][threadIdx.y + i * SIDE] * b[d][threadIdx.x + j * SIDE];
        __syncthreads();
    }
}

// store(row, column, number) for each of this thread's numbers that is inside the result.
template <class Store>
__device__ void keep(const REAL (&sum)[EACH][EACH], int rows, int columns, const Store& store) {
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++) {
            const int row = blockIdx.x * TILE + threadIdx.y + i * SIDE;
            const int column = blockIdx.y * TILE + threadIdx.x + j * SIDE;
            if (row < rows && column < columns) store(row, column, sum[i][j]);
        }
}

// z = P w + b, then max{z, 0} with RELU.  Grid: tiles of (n OUT_H OUT_W, K), GROUPS.
extern "C" __global__ void conv2d_forward(const ACT* x, const REAL* w, const REAL* b, ACT* z,
                                          int n) {
    const int group = blockIdx.z, rows = n * OUT_H * OUT_W;
    REAL sum[EACH][EACH] = {};
    product(Patches{x, group}, Filters{w, group}, rows, N_FILTERS, 0,
            KERNEL_H * KERNEL_W * N_CHANNELS, sum);
    keep(sum, rows, N_FILTERS, [=](int row, int k, REAL total) {
        const int filter = group * N_FILTERS + k;
        if (HAS_BIAS) total += b[filter];
        if (RELU) total = total <= 0 ? REAL(0) : total;  // this way round NaN stays
        z[Index(row) * ALL_FILTERS + filter] = ACT(total);
    });
}

// dx = Q v.  Grid: tiles of (n HEIGHT WIDTH, C), GROUPS.
extern "C" __global__ void conv2d_input_gradient(const ACT* dz, const REAL* w, ACT* dx, int n) {
    const int group = blockIdx.z, rows = n * HEIGHT * WIDTH;
    REAL sum[EACH][EACH] = {};
    product(Reached{dz, group}, FiltersBack{w, group}, rows, N_CHANNELS, 0,
            KERNEL_H * KERNEL_W * N_FILTERS, sum);
    keep(sum, rows, N_CHANNELS, [=](int row, int c, REAL total) {
        dx[Index(row) * ALL_CHANNELS + group * N_CHANNELS + c] = ACT(total);
    });
}

// dw[part] = P^T dz over the part's positions; the parts are added up afterwards, in their order.
// Grid: tiles of (R, K), GROUPS parts.
extern "C" __global__ void conv2d_weight_gradient(const ACT* x, const ACT* dz, REAL* dw, int n,
                                                  int parts) {
    const int group = blockIdx.z / parts, part = blockIdx.z % parts;
    const int positions = n * OUT_H * OUT_W, taps = KERNEL_H * KERNEL_W * N_CHANNELS;
    const int each = (positions + parts - 1) / parts, first = part * each;
    const int last = first + each < positions ? first + each : positions;
    REAL sum[EACH][EACH] = {};
    product(PatchesBack{{x, group}}, Upstream{dz, group}, taps, N_FILTERS, first, last, sum);
    keep(sum, taps, N_FILTERS, [=](int tap, int k, REAL total) {
        dw[(Index(part) * taps + tap) * ALL_FILTERS + group * N_FILTERS + k] = total;
    });
}
