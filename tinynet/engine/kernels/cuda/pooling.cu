// Max pooling (report 2.5.4): the largest number under each window, and which tap held it, one byte.
//
// A thread makes one number of the result. Neighbours in a row of threads are neighbours in C, the
// last axis, so that they read and write runs of memory. The backward pass gathers: each cell adds up
// the windows that it won, in the windows' order, so that its bits are always the same.
//
// ACT (float, double or bf16) of images, REAL (float or double) of arithmetic, and the geometry are
// compiled in: CHANNELS, HEIGHT, WIDTH (of x), OUT_H, OUT_W (of y), KERNEL_H, KERNEL_W (256 taps at
// most), STRIDE_H, STRIDE_W, DILATION_H, DILATION_W, TOP, LEFT (padding).

#include "bf16.cuh"
#include "each_number.cuh"

// y and winner (n, OUT_H, OUT_W, CHANNELS).  The first of equals wins, a NaN over numbers.
extern "C" __global__ void max_pool2d_forward(const ACT* x, ACT* y, unsigned char* winner, int n) {
    EACH_NUMBER(at, Index(n) * OUT_H * OUT_W * CHANNELS) {
        const int c = at % CHANNELS, across = at / CHANNELS % OUT_W;
        const int down = at / (CHANNELS * OUT_W) % OUT_H;
        const Index image = at / (Index(CHANNELS) * OUT_W * OUT_H);
        REAL best = 0;
        int number = -1;  // nothing inside the image yet
        for (int i = 0; i < KERNEL_H; i++)
            for (int j = 0; j < KERNEL_W; j++) {
                const int row = down * STRIDE_H + i * DILATION_H - TOP;
                const int column = across * STRIDE_W + j * DILATION_W - LEFT;
                if (row < 0 || row >= HEIGHT || column < 0 || column >= WIDTH) continue;
                const REAL z = x[((image * HEIGHT + row) * WIDTH + column) * CHANNELS + c];
                if (number < 0 || z > best || z != z) best = z, number = i * KERNEL_W + j;
            }
        y[at] = best;
        winner[at] = number;
    }
}

// dx (n, HEIGHT, WIDTH, CHANNELS) from dy and winner.
extern "C" __global__ void max_pool2d_backward(const ACT* dy, const unsigned char* winner, ACT* dx,
                                               int n) {
    EACH_NUMBER(at, Index(n) * HEIGHT * WIDTH * CHANNELS) {
        const int c = at % CHANNELS, column = at / CHANNELS % WIDTH + LEFT;
        const int row = at / (CHANNELS * WIDTH) % HEIGHT + TOP;
        const Index image = at / (Index(CHANNELS) * WIDTH * HEIGHT);
        REAL total = 0;
        for (int i = 0; i < KERNEL_H; i++)
            for (int j = 0; j < KERNEL_W; j++) {
                const int down = row - i * DILATION_H, across = column - j * DILATION_W;
                if (down < 0 || across < 0 || down % STRIDE_H || across % STRIDE_W) continue;
                const int a = down / STRIDE_H, b = across / STRIDE_W;
                if (a >= OUT_H || b >= OUT_W) continue;
                const Index window = ((image * OUT_H + a) * OUT_W + b) * CHANNELS + c;
                // times 0 where another cell won: a NaN is not hidden
                total += REAL(dy[window]) * REAL(winner[window] == i * KERNEL_W + j);
            }
        dx[at] = total;
    }
}
