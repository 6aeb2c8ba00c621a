// Sums over all axes but the last: the gradient of a bias, db[c] = sum over rows of dz[row, c].
//
// x (rows, channels) is read once, 16 bytes a thread where the channels allow it. A thread adds up
// its rows one after the other in REAL (some 24 of them for a large array), trees add up the rest.
// ACT (float, double or bf16), REAL (float or double) and what columns.cuh asks for are compiled
// in.

#include "bf16.cuh"
#include "each_number.cuh"
#include "packs.cuh"
#include "columns.cuh"

struct Total {
    REAL sum;

    __device__ void add(const Total& other) { sum += other.sum; }
};

// parts (chunks, channels).  Grid and block: see columns.cuh.
extern "C" __global__ void __launch_bounds__(COLUMNS * ROWS) channel_sums_parts(
    const ACT* x, REAL* parts, Index rows, int channels, Index chunk) {
    const Share mine(rows, channels, chunk);
    Total total[VEC] = {};
    const ACT* from = x + mine.first * channels + mine.channel;
#pragma unroll 4
    for (int t = 0; t < mine.count; t++) {
        REAL number[VEC];
        load(from + t * Index(ROWS) * channels, number);
#pragma unroll
        for (int v = 0; v < VEC; v++) total[v].sum += number[v];
    }
    add_up_rows<COLUMNS, ROWS>(total);
    if (threadIdx.y == 0 && mine.inside)
        for (int v = 0; v < VEC; v++)
            parts[Index(blockIdx.y) * channels + mine.channel + v] = total[v].sum;
}

// sums (channels,).
extern "C" __global__ void channel_sums_finish(const REAL* parts, REAL* sums, int count,
                                               int channels) {
    const int channel = channel_to_finish();
    Total total[1] = {};
    if (channel < channels)
        for (int part = threadIdx.y; part < count; part += FINISH_ROWS)
            total[0].sum += parts[Index(part) * channels + channel];
    add_up_rows<FINISH_COLUMNS, FINISH_ROWS>(total);
    if (threadIdx.y == 0 && channel < channels) sums[channel] = total[0].sum;
}
