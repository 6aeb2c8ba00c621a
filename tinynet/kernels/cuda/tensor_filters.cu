// What surrounds the products of tensor_conv.cu: filters as they want them, and sums of parts.
//
// -D ACT (bf16, or float for TF32), REAL (float), N_CHANNELS, N_FILTERS, TAPS of the filters w
// (TAPS, N_CHANNELS, N_FILTERS).

#include "each_number.cuh"
#include "bf16.cuh"
#include "pipeline.cuh"
#include "tensor_core.cuh"

// filters (K, TAPS, C) as the forward pass takes them, from w (TAPS, C, K).
// Grid: tiles of 32 x 32 of (K, C), TAPS; blocks of 32 x 8.
extern "C" __global__ void filters_forward(const REAL* w, ACT* filters) {
    __shared__ REAL tile[32][33];
    const int k0 = blockIdx.x * 32, c0 = blockIdx.y * 32, tap = blockIdx.z;
    for (int i = threadIdx.y; i < 32; i += 8) {
        const int c = c0 + i, k = k0 + threadIdx.x;
        if (c < N_CHANNELS && k < N_FILTERS)
            tile[i][threadIdx.x] = w[(Index(tap) * N_CHANNELS + c) * N_FILTERS + k];
    }
    __syncthreads();
    for (int i = threadIdx.y; i < 32; i += 8) {
        const int k = k0 + i, c = c0 + threadIdx.x;
        if (c < N_CHANNELS && k < N_FILTERS)
            filters[(Index(k) * TAPS + tap) * N_CHANNELS + c] = operand(ACT(), tile[threadIdx.x][i]);
    }
}

// filters (C, TAPS, K) as the input gradient takes them, from w (TAPS, C, K).
extern "C" __global__ void filters_backward(const REAL* w, ACT* filters) {
    EACH_NUMBER(at, Index(N_CHANNELS) * TAPS * N_FILTERS) {
        const int k = at % N_FILTERS, place = at / N_FILTERS, tap = place % TAPS, c = place / TAPS;
        filters[at] = operand(ACT(), w[(Index(tap) * N_CHANNELS + c) * N_FILTERS + k]);
    }
}

// dw = parts[0] + parts[1] + ..., each of the filters' size.
extern "C" __global__ void add_parts(const REAL* parts, REAL* dw, int count) {
    constexpr Index SIZE = Index(TAPS) * N_CHANNELS * N_FILTERS;
    EACH_NUMBER(at, SIZE) {
        REAL total = parts[at];
        for (int part = 1; part < count; part++) total += parts[part * SIZE + at];
        dw[at] = total;
    }
}
