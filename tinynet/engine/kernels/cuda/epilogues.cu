// ReLU and max-pool 2x2 in one pass (report 2.2.2, 2.5.4), as they follow a convolution.
//
//   y[a, b] = max_ij max{z[2a + i, 2b + j], 0}     for each channel; z (n, HEIGHT, WIDTH, CHANNELS)
//
// winner, one byte for each y, says which of the four cells it was, row by row, or NO_WINNER where all
// are <= 0. A thread makes VEC neighbouring channels of one window, and reads or writes its four
// cells: each number goes to and from memory once. ACT, REAL, VEC and the sizes are compiled in.

#include "bf16.cuh"
#include "each_number.cuh"
#include "packs.cuh"
#include "epilogue.cuh"

constexpr int PACKS = CHANNELS / VEC;

// y, winner (n, HEIGHT / 2, WIDTH / 2, CHANNELS).
extern "C" __global__ void relu_pool(const ACT* z, ACT* y, unsigned char* winner, int n) {
    constexpr int HIGH = HEIGHT / 2, WIDE = WIDTH / 2;
    EACH_NUMBER(at, Index(n) * HIGH * WIDE * PACKS) {
        const int c = at % PACKS * VEC, b = at / PACKS % WIDE;
        const Index line = at / (Index(PACKS) * WIDE), image = line / HIGH;
        const int a = line % HIGH;
        REAL result[VEC] = {};
        unsigned char number[VEC] = {};
#pragma unroll
        for (int q = 0; q < 4; q++) {
            const Index row = image * HEIGHT + 2 * a + q / 2, column = 2 * b + q % 2;
            REAL cell[VEC];
            load(z + (row * WIDTH + column) * CHANNELS + c, cell);
#pragma unroll
            for (int v = 0; v < VEC; v++) keep_larger(q, relu(cell[v]), result[v], number[v]);
        }
#pragma unroll
        for (int v = 0; v < VEC; v++)
            if (!(result[v] > 0)) number[v] = NO_WINNER;
        store(y + at * VEC, result);
        store(winner + at * VEC, number);
    }
}

// dz (n, HEIGHT, WIDTH, CHANNELS) from dy and winner (n, HEIGHT / 2, WIDTH / 2, CHANNELS): dy where
// the cell won, else 0 dy, so that a NaN is not hidden; 0 in an odd last line or column.
extern "C" __global__ void unpool(const ACT* dy, const unsigned char* winner, ACT* dz, int n) {
    constexpr int HIGH = (HEIGHT + 1) / 2, WIDE = (WIDTH + 1) / 2;
    EACH_NUMBER(at, Index(n) * HIGH * WIDE * PACKS) {
        const int c = at % PACKS * VEC, b = at / PACKS % WIDE;
        const Index line = at / (Index(PACKS) * WIDE), image = line / HIGH;
        const int a = line % HIGH;
        REAL d[VEC] = {};
        int number[VEC] = {};
        if (a < HEIGHT / 2 && b < WIDTH / 2) {
            const Index row = image * (HEIGHT / 2) + a;
            const Index from = (row * (WIDTH / 2) + b) * CHANNELS + c;
            load(dy + from, d);
            load(winner + from, number);
        }
#pragma unroll
        for (int q = 0; q < 4; q++) {
            const int down = 2 * a + q / 2, column = 2 * b + q % 2;
            if (down >= HEIGHT || column >= WIDTH) continue;
            REAL cell[VEC];
#pragma unroll
            for (int v = 0; v < VEC; v++) cell[v] = d[v] * REAL(number[v] == q);
            store(dz + ((image * HEIGHT + down) * WIDTH + column) * CHANNELS + c, cell);
        }
    }
}
