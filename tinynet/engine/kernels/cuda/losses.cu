// Softmax cross-entropy of logits z (N, K) and targets y (N, K), and its gradient (report 2.3.1-2).
//
//   p_ij = exp(z_ij - max_k z_ik) / sum_k exp(z_ik - max)
//   L = sum_i share_i L_i,   L_i = - sum_j y_ij log p_ij,   share_i = w_i / N
//   dz_ij = share_i (p_ij sum_k y_ik - y_ij)
//
// A block has a row of z, its threads every THREADS-th number of it. A second kernel of one block adds
// up the rows. All sums are made in a fixed order: the bits are the same from run to run.
//
// Compiled in: REAL, THREADS (a power of 2).

#include "each_number.cuh"

// What the block's THREADS numbers give when they are combined two by two; every thread gets it.
template <class Combine>
__device__ REAL over_block(REAL mine, const Combine& combine) {
    __shared__ REAL held[THREADS];
    const int me = threadIdx.x;
    held[me] = mine;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (me < half) held[me] = combine(held[me], held[me + half]);
        __syncthreads();
    }
    const REAL whole = held[0];
    __syncthreads();  // until all have read it
    return whole;
}

__device__ REAL sum_over_block(REAL mine) {
    return over_block(mine, [](REAL a, REAL b) { return a + b; });
}

// p (N, K), losses (N,), share_i L_i, and share (N,), which is `shares` or, unless weighted, 1 / N.
// Grid: N.
extern "C" __global__ void softmax_cross_entropy_forward(const REAL* z, const REAL* y,
                                                         const REAL* shares, REAL* p, REAL* share,
                                                         REAL* losses, int classes, int weighted) {
    const Index start = Index(blockIdx.x) * classes;
    REAL largest = REAL(z[start]);
    for (int j = threadIdx.x; j < classes; j += THREADS) {
        const REAL number = REAL(z[start + j]);
        if (number > largest) largest = number;  // a NaN is left: it spoils the sum
    }
    largest = over_block(largest, [](REAL a, REAL b) { return a > b ? a : b; });

    REAL total = 0;
    for (int j = threadIdx.x; j < classes; j += THREADS) {
        const REAL e = exp(REAL(z[start + j]) - largest);
        p[start + j] = e;
        total += e;
    }
    total = sum_over_block(total);

    const REAL log_total = log(total);
    REAL loss = 0;
    for (int j = threadIdx.x; j < classes; j += THREADS) {
        p[start + j] /= total;
        // a class with y = 0 has no term, even if it is masked by a logit of -inf
        if (y[start + j] != 0) loss += y[start + j] * (REAL(z[start + j]) - largest - log_total);
    }
    loss = -sum_over_block(loss);
    if (threadIdx.x == 0) {
        const REAL mine = weighted ? shares[blockIdx.x] : 1 / REAL(gridDim.x);
        share[blockIdx.x] = mine;
        losses[blockIdx.x] = mine * loss;
    }
}

// total = sum_i losses_i.  Grid: 1.
extern "C" __global__ void sum_of_losses(const REAL* losses, REAL* total, int examples) {
    REAL mine = 0;
    for (int i = threadIdx.x; i < examples; i += THREADS) mine += losses[i];
    mine = sum_over_block(mine);
    if (threadIdx.x == 0) total[0] = mine;
}

// dz (N, K) from p, y and share.  Grid: N.
extern "C" __global__ void softmax_cross_entropy_backward(const REAL* p, const REAL* y,
                                                          const REAL* share, REAL* dz,
                                                          int classes) {
    const Index start = Index(blockIdx.x) * classes;
    REAL whole = 0;
    for (int j = threadIdx.x; j < classes; j += THREADS) whole += y[start + j];
    whole = sum_over_block(whole);
    for (int j = threadIdx.x; j < classes; j += THREADS)
        dz[start + j] = (share[blockIdx.x] * (p[start + j] * whole - y[start + j]));
}
