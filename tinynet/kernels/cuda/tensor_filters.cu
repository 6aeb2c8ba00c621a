// What surrounds the products of tensor_conv.cu: filters as they want them, sums of parts, and images
// of few channels (those of a first layer), which get channels of zeros up to a piece of 16 bytes.
//
// -D ACT (bf16, or float for TF32), REAL (float), and of the filters w (TAPS, CHANNELS, N_FILTERS) the
// three sizes; N_CHANNELS is CHANNELS in whole pieces.

#include "each_number.cuh"
#include "bf16.cuh"
#include "pipeline.cuh"
#include "tensor_core.cuh"

// filters (K, TAPS, N_CHANNELS) as the forward pass takes them, from w (TAPS, CHANNELS, K).
// Grid: tiles of 32 x 32 of (K, N_CHANNELS), TAPS; blocks of 32 x 8.
extern "C" __global__ void filters_forward(const REAL* w, ACT* filters) {
    __shared__ REAL tile[32][33];
    const int k0 = blockIdx.x * 32, c0 = blockIdx.y * 32, tap = blockIdx.z;
    for (int i = threadIdx.y; i < 32; i += 8) {
        const int c = c0 + i, k = k0 + threadIdx.x;
        if (k < N_FILTERS)
            tile[i][threadIdx.x] =
                c < CHANNELS ? w[(Index(tap) * CHANNELS + c) * N_FILTERS + k] : REAL(0);
    }
    __syncthreads();
    for (int i = threadIdx.y; i < 32; i += 8) {
        const int k = k0 + i, c = c0 + threadIdx.x;
        if (c < N_CHANNELS && k < N_FILTERS)
            filters[(Index(k) * TAPS + tap) * N_CHANNELS + c] = operand(ACT(), tile[threadIdx.x][i]);
    }
}

// filters (CHANNELS, TAPS, K) as the input gradient takes them, from w (TAPS, CHANNELS, K).
extern "C" __global__ void filters_backward(const REAL* w, ACT* filters) {
    EACH_NUMBER(at, Index(CHANNELS) * TAPS * N_FILTERS) {
        const int k = at % N_FILTERS, place = at / N_FILTERS, tap = place % TAPS, c = place / TAPS;
        filters[at] = operand(ACT(), w[(Index(tap) * CHANNELS + c) * N_FILTERS + k]);
    }
}

// dw (TAPS, CHANNELS, K) = parts[0] + parts[1] + ..., each (TAPS, N_CHANNELS, K).
extern "C" __global__ void add_parts(const REAL* parts, REAL* dw, int count) {
    constexpr Index SIZE = Index(TAPS) * N_CHANNELS * N_FILTERS;
    EACH_NUMBER(at, Index(TAPS) * CHANNELS * N_FILTERS) {
        const int k = at % N_FILTERS, place = at / N_FILTERS;
        const int tap = place / CHANNELS, c = place % CHANNELS;
        const REAL* const from = parts + (Index(tap) * N_CHANNELS + c) * N_FILTERS + k;
        REAL total = from[0];
        for (int part = 1; part < count; part++) total += from[part * SIZE];
        dw[at] = total;
    }
}

struct alignas(16) Numbers {
    ACT of[16 / sizeof(ACT)];
};

// to (cells, N_CHANNELS), one piece each, from x (cells, CHANNELS); zeros behind.
extern "C" __global__ void widen(const ACT* x, ACT* to, Index cells) {
    static_assert(N_CHANNELS * sizeof(ACT) == 16 || N_CHANNELS == CHANNELS, "one piece a cell");
    EACH_NUMBER(cell, cells) {
        Numbers piece;
        for (int c = 0; c < int(16 / sizeof(ACT)); c++)
            piece.of[c] = c < CHANNELS ? x[cell * CHANNELS + c] : ACT(0.f);
        *reinterpret_cast<Numbers*>(to + cell * N_CHANNELS) = piece;
    }
}
