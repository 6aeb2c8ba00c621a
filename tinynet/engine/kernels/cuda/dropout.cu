// Dropout (report 2.4.1), and the random numbers that its mask is made of: NumPy's own, so that a seed
// means the same mask on the processor and here.
//
//   u_i = (r_i >> 11) 2^-53,   mask_i = u_i < p,   y_i = x_i mask_i scale
//
// r_0, r_1, ... are what NumPy's Philox gives: the number at position 4 c + l of the stream is word l of
// philox(counter + c), ten rounds on four words of 64 bits (Salmon et al. 2011, "Parallel random
// numbers: as easy as 1, 2, 3"). Each number is made by itself, from
//
//   state (7)   key (2), counter (4, the lowest word first), position
//
// which lies on the GPU, so that a captured graph finds the state of its step there. `drawn` is how
// many numbers were drawn from that state before.
//
// Compiled in: ACT (of x and y), REAL (of the arithmetic).

#include "bf16.cuh"
#include "each_number.cuh"

typedef unsigned long long Word;

struct Block {
    Word word[4];
};

__device__ Block philox(Block c, Word key_0, Word key_1) {
    const Word M_0 = 0xD2E7470EE14C6C93ull, M_1 = 0xCA5A826395121157ull;
    for (int round = 0; round < 10; round++) {
        const Word high_0 = __umul64hi(M_0, c.word[0]), low_0 = M_0 * c.word[0];
        const Word high_1 = __umul64hi(M_1, c.word[2]), low_1 = M_1 * c.word[2];
        c = {{high_1 ^ c.word[1] ^ key_0, low_1, high_0 ^ c.word[3] ^ key_1, low_0}};
        key_0 += 0x9E3779B97F4A7C15ull;
        key_1 += 0xBB67AE8584CAA73Bull;
    }
    return c;
}

// store(i, u_i) for i = 0 ... size - 1. A thread makes one block of four numbers after the other; the
// first and the last may have numbers that nobody asked for.
template <class Store>
__device__ void draw(const unsigned long long* state, Index drawn, Index size, const Store& store) {
    const Word start = state[6] + Word(drawn);
    const int skipped = start % 4;
    EACH_NUMBER(number, (size + skipped + 3) / 4) {
        Block counter;
        Word carry = start / 4 + Word(number);
        for (int i = 0; i < 4; i++) {
            counter.word[i] = state[2 + i] + carry;
            carry = counter.word[i] < carry;
        }
        const Block made = philox(counter, state[0], state[1]);
        for (int lane = 0; lane < 4; lane++) {
            const Index i = 4 * number + lane - skipped;
            if (i >= 0 && i < size) store(i, double(made.word[lane] >> 11) * (1.0 / (1ull << 53)));
        }
    }
}

// u (size).
extern "C" __global__ void random_numbers(const unsigned long long* state, double* u, Index drawn,
                                          Index size) {
    draw(state, drawn, size, [=](Index i, double number) { u[i] = number; });
}

// mask (size), 1 with probability p.
extern "C" __global__ void random_mask(const unsigned long long* state, bool* mask, double p,
                                       Index drawn, Index size) {
    draw(state, drawn, size, [=](Index i, double number) { mask[i] = number < p; });
}

// y = x mask scale.  Times 0 where a neuron is removed: a NaN is not hidden.
extern "C" __global__ void dropped_out(const ACT* x, const bool* mask, ACT* y, REAL scale,
                                       Index size) {
    EACH_NUMBER(i, size) y[i] = ACT(REAL(x[i]) * REAL(mask[i]) * scale);
}

// y = x scale.
extern "C" __global__ void scaled(const ACT* x, ACT* y, REAL scale, Index size) {
    EACH_NUMBER(i, size) y[i] = ACT(REAL(x[i]) * scale);
}
