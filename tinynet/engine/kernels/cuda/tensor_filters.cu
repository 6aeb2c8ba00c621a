// What surrounds the products of tensor_conv.cu: filters as they want them, sums of parts, and images
// of few channels (those of a first layer), which get channels of zeros up to a piece of 16 bytes.
//
// Filters w are (taps, channels, k); `wide` is channels in whole pieces. All sizes are arguments, so
// that a network needs one compilation. -D ACT (bf16, or float for TF32), REAL (float).

#include "each_number.cuh"
#include "bf16.cuh"
#include "pipeline.cuh"
#include "tensor_core.cuh"

// filters (k, taps, wide) as the forward pass takes them, zeros behind the channels.
// Grid: tiles of 32 x 32 of (k, wide), taps; blocks of 32 x 8.
extern "C" __global__ void filters_forward(const REAL* w, ACT* filters, int channels, int wide,
                                           int count) {
    __shared__ REAL tile[32][33];
    const int k0 = blockIdx.x * 32, c0 = blockIdx.y * 32, tap = blockIdx.z, taps = gridDim.z;
    for (int i = threadIdx.y; i < 32; i += 8) {
        const int c = c0 + i, k = k0 + threadIdx.x;
        const bool there = c < channels && k < count;
        tile[i][threadIdx.x] = there ? w[(Index(tap) * channels + c) * count + k] : REAL(0);
    }
    __syncthreads();
    for (int i = threadIdx.y; i < 32; i += 8) {
        const int k = k0 + i, c = c0 + threadIdx.x;
        if (c < wide && k < count)
            filters[(Index(k) * taps + tap) * wide + c] = operand(ACT(), tile[threadIdx.x][i]);
    }
}

// filters (channels, taps, k) as the input gradient takes them.
extern "C" __global__ void filters_backward(const REAL* w, ACT* filters, int taps, int channels,
                                            int count) {
    EACH_NUMBER(at, Index(taps) * channels * count) {
        const int place = at / count, k = at % count, tap = place % taps, c = place / taps;
        filters[at] = operand(ACT(), w[(Index(tap) * channels + c) * count + k]);
    }
}

// dw (taps, channels, k) = sums[0] + sums[1] + ..., each (taps, wide, k).
extern "C" __global__ void add_parts(const REAL* sums, REAL* dw, int parts, int taps, int channels,
                                     int wide, int count) {
    const Index size = Index(taps) * wide * count;
    EACH_NUMBER(at, Index(taps) * channels * count) {
        const int place = at / count, k = at % count, tap = place / channels, c = place % channels;
        const REAL* const from = sums + (Index(tap) * wide + c) * count + k;
        REAL total = from[0];
        for (int part = 1; part < parts; part++) total += from[part * size];
        dw[at] = total;
    }
}

struct alignas(16) Numbers {
    ACT of[16 / sizeof(ACT)];
};

// to (cells, one piece) from x (cells, channels), zeros behind them.
extern "C" __global__ void widen(const ACT* x, ACT* to, int channels, Index cells) {
    EACH_NUMBER(cell, cells) {
        Numbers piece;
        for (int c = 0; c < int(16 / sizeof(ACT)); c++)
            piece.of[c] = c < channels ? x[cell * channels + c] : ACT(0.f);
        reinterpret_cast<Numbers*>(to)[cell] = piece;
    }
}
