// A dense layer (report 2.2.1, 2.3.2): three products of matrices, without cuBLAS, which a CUDA graph
// cannot be made of.
//
//   forward          z (N, O)  = x (N, I) w (I, O) + b (O)
//   input gradient   dx (N, I) = dz (N, O) w^T (O, I)
//   weight gradient  dw (I, O) = x^T (I, N) dz (N, O),   db (O) = sum_n dz_n
//
// A block of SIDE x SIDE threads makes a tile of a product, ROWS SIDE x 4 SIDE numbers, each thread
// ROWS x 4 neighbours in registers; DEPTH columns of the left matrix and rows of the right one are in
// shared memory at a time. With few rows the time goes into reading w, once: the first two products
// are divided over their depth into parts (blockIdx.z), so that all of the GPU reads, and the parts are
// added up afterwards, in their order.
//
// Compiled in: ACT (of x, z, dz, dx), REAL (of w, b, dw, db and all sums), SIDE (a multiple of 4),
// ROWS (1, 2 or 4), FOURS (1: w and dw lie on a multiple of four numbers, and so does each row of
// theirs: they are read and written four at a time).

#include "bf16.cuh"
#include "each_number.cuh"

constexpr int DEPTH = SIDE, THREADS = SIDE * SIDE, TILE_ROWS = ROWS * SIDE, TILE_COLUMNS = 4 * SIDE;

struct alignas(4 * sizeof(REAL)) Four {
    REAL v[4];
};

struct alignas(ROWS * sizeof(REAL)) Strip {
    REAL v[ROWS];
};

// A matrix whose rows of `width` numbers lie one after the other; or, turned, its transpose.
template <class Number, bool IS_TURNED>
struct Matrix {
    static constexpr bool TURNED = IS_TURNED;
    const Number* numbers;
    int width;

    __device__ const Number* at(int i, int j) const {
        return numbers + (TURNED ? Index(j) * width + i : Index(i) * width + j);
    }
    __device__ REAL operator()(int i, int j) const { return REAL(*at(i, j)); }
    __device__ Four four(int i, int j) const { return *reinterpret_cast<const Four*>(at(i, j)); }
};

// sum += left (rows, depth) right (depth, columns), for this thread's numbers, over the depths
// first ... last - 1. Neighbouring threads read what lies side by side in memory.
template <bool IN_FOURS, class Left, class Right>
__device__ void product(const Left& left, const Right& right, int rows, int columns, int first,
                        int last, REAL (&sum)[ROWS][4]) {
    __shared__ Strip a[DEPTH][SIDE + 1];  // one more, so that a column lies in several banks
    __shared__ Four b[DEPTH][SIDE + 1];
    const int me = threadIdx.y * SIDE + threadIdx.x;
    const int top = blockIdx.x * TILE_ROWS, side = blockIdx.y * TILE_COLUMNS;
    for (int start = first; start < last; start += DEPTH) {
        for (int q = me; q < TILE_ROWS * DEPTH; q += THREADS) {
            const int d = Left::TURNED ? q / TILE_ROWS : q % DEPTH;
            const int i = Left::TURNED ? q % TILE_ROWS : q / DEPTH;
            const bool inside = top + i < rows && start + d < last;
            a[d][i / ROWS].v[i % ROWS] = inside ? left(top + i, start + d) : REAL(0);
        }
        if constexpr (IN_FOURS) {
            for (int q = me; q < TILE_COLUMNS * DEPTH / 4; q += THREADS) {
                const int d = Right::TURNED ? q % (DEPTH / 4) * 4 : q / SIDE;
                const int j = Right::TURNED ? q / (DEPTH / 4) : q % SIDE * 4;
                const bool inside = side + j < columns && start + d < last;
                const Four four = inside ? right.four(start + d, side + j) : Four{};
                if (Right::TURNED)
                    for (int e = 0; e < 4; e++) b[d + e][j / 4].v[j % 4] = four.v[e];
                else
                    b[d][j / 4] = four;
            }
        } else {
            for (int q = me; q < TILE_COLUMNS * DEPTH; q += THREADS) {
                const int d = Right::TURNED ? q % DEPTH : q / TILE_COLUMNS;
                const int j = Right::TURNED ? q / DEPTH : q % TILE_COLUMNS;
                const bool inside = side + j < columns && start + d < last;
                b[d][j / 4].v[j % 4] = inside ? right(start + d, side + j) : REAL(0);
            }
        }
        __syncthreads();
#pragma unroll
        for (int d = 0; d < DEPTH; d++) {
            const Strip down = a[d][threadIdx.y];
            const Four across = b[d][threadIdx.x];
            for (int i = 0; i < ROWS; i++)
                for (int j = 0; j < 4; j++) sum[i][j] += down.v[i] * across.v[j];
        }
        __syncthreads();
    }
}

// store(row, column, number) for each of this thread's numbers that is inside the result.
template <class Store>
__device__ void keep(const REAL (&sum)[ROWS][4], int rows, int columns, const Store& store) {
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < 4; j++) {
            const int row = blockIdx.x * TILE_ROWS + threadIdx.y * ROWS + i;
            const int column = blockIdx.y * TILE_COLUMNS + threadIdx.x * 4 + j;
            if (row < rows && column < columns) store(row, column, sum[i][j]);
        }
}

// The depths of this block's part, whole tiles but for the last: first, and one past the last.
__device__ void part_of(int depth, int parts, int& first, int& last) {
    const int tiles = (depth + DEPTH - 1) / DEPTH, each = (tiles + parts - 1) / parts * DEPTH;
    const int part = blockIdx.z;
    first = part * each < depth ? part * each : depth;
    last = depth - first < each ? depth : first + each;
}

// z = x w + b, or with several parts their sums (parts, n, outputs).  Grid: tiles of (n, outputs), parts.
extern "C" __global__ void dense_forward(const ACT* x, const REAL* w, const REAL* b, ACT* z,
                                         REAL* sums, int n, int inputs, int outputs, int parts,
                                         int has_bias) {
    REAL sum[ROWS][4] = {};
    int first, last;
    part_of(inputs, parts, first, last);
    product<FOURS>(Matrix<ACT, false>{x, inputs}, Matrix<REAL, false>{w, outputs}, n, outputs, first,
                   last, sum);
    const Index part = Index(blockIdx.z) * n;
    keep(sum, n, outputs, [=](int row, int column, REAL total) {
        if (parts == 1)
            z[Index(row) * outputs + column] = ACT(has_bias ? total + b[column] : total);
        else
            sums[(part + row) * outputs + column] = total;
    });
}

// dx = dz w^T, or with several parts their sums (parts, n, inputs).  Grid: tiles of (n, inputs), parts.
extern "C" __global__ void dense_input_gradient(const ACT* dz, const REAL* w, ACT* dx, REAL* sums,
                                                int n, int inputs, int outputs, int parts) {
    REAL sum[ROWS][4] = {};
    int first, last;
    part_of(outputs, parts, first, last);
    product<FOURS>(Matrix<ACT, false>{dz, outputs}, Matrix<REAL, true>{w, outputs}, n, inputs, first,
                   last, sum);
    const Index part = Index(blockIdx.z) * n;
    keep(sum, n, inputs, [=](int row, int column, REAL total) {
        if (parts == 1)
            dx[Index(row) * inputs + column] = ACT(total);
        else
            sums[(part + row) * inputs + column] = total;
    });
}

// y (size) = the sum of the parts (parts, size), and b, which has `width` numbers.
extern "C" __global__ void add_parts(const REAL* sums, const REAL* b, ACT* y, Index size, int width,
                                     int parts, int has_bias) {
    EACH_NUMBER(i, size) {
        REAL total = 0;
        for (int part = 0; part < parts; part++) total += sums[part * size + i];
        y[i] = ACT(has_bias ? total + b[i % width] : total);
    }
}

// dw = x^T dz, or dw += x^T dz.  Grid: tiles of (inputs, outputs).
extern "C" __global__ void dense_weight_gradient(const ACT* x, const ACT* dz, REAL* dw, int n,
                                                 int inputs, int outputs, int add) {
    REAL sum[ROWS][4] = {};
    product<false>(Matrix<ACT, true>{x, inputs}, Matrix<ACT, false>{dz, outputs}, inputs, outputs, 0,
                   n, sum);
    if (FOURS) {
        const int column = blockIdx.y * TILE_COLUMNS + threadIdx.x * 4;
        for (int i = 0; i < ROWS; i++) {
            const int row = blockIdx.x * TILE_ROWS + threadIdx.y * ROWS + i;
            if (row >= inputs || column >= outputs) continue;
            Four* place = reinterpret_cast<Four*>(dw + Index(row) * outputs + column);
            Four total = add ? *place : Four{};
            for (int j = 0; j < 4; j++) total.v[j] += sum[i][j];
            *place = total;
        }
        return;
    }
    keep(sum, inputs, outputs, [=](int row, int column, REAL total) {
        const Index place = Index(row) * outputs + column;
        dw[place] = add ? dw[place] + total : total;
    });
}

// db = sum_n dz_n, or db += that.  A block of 32 x 8 threads has 32 columns; each of the 8 takes every
// eighth row.  Grid: outputs / 32.
extern "C" __global__ void dense_bias_gradient(const ACT* dz, REAL* db, int n, int outputs, int add) {
    __shared__ REAL parts[8][32];
    const int column = blockIdx.x * 32 + threadIdx.x;
    REAL total = 0;
    if (column < outputs)
        for (int row = threadIdx.y; row < n; row += 8) total += REAL(dz[Index(row) * outputs + column]);
    parts[threadIdx.y][threadIdx.x] = total;
    __syncthreads();
    if (threadIdx.y > 0 || column >= outputs) return;
    total = add ? db[column] : REAL(0);
    for (int part = 0; part < 8; part++) total += parts[part][threadIdx.x];
    db[column] = total;
}
