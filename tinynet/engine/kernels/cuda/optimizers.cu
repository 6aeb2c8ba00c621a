// How gradients change the weights (report 2.3.3-4): each number is read once and written once. The
// references make an array for every operation, eight trips to memory more.
//
// One launch changes all tensors of a network, by tables that lie on the GPU, so that a captured graph
// finds the numbers of its step there:
//
//   pointers (T, 2 + slots)   where w, g and what the rule remembers of each tensor begin
//   sizes (T,)                how many numbers a tensor has
//   chunks (blocks, 2)        for each block: its tensor, and the first of its `chunk` numbers
//   numbers (T, 2 + ...)      lambda, of g + lambda w; what w shrinks by, 1 - rate lambda where decay
//                             is decoupled, else 1; then the numbers of the rule
//   loss ()                   the step's: if it is not finite nothing is changed
//
// REAL (float or double) and RULE (one of the structs) are compiled in; keep_m and keep_v are 1 - beta
// and 1 - alpha, taken in double precision before they are rounded.

#include "each_number.cuh"

// w <- w - rate g
struct GradientDescent {
    static constexpr int SLOTS = 0, NUMBERS = 1;
    REAL rate;

    __device__ GradientDescent(const REAL* n) : rate(n[0]) {}
    __device__ void operator()(REAL& w, REAL*, REAL g) const { w -= rate * g; }
};

// u <- mu u + g;   w <- w - rate u, or with nesterov w - rate (g + mu u)
struct Momentum {
    static constexpr int SLOTS = 1, NUMBERS = 3;
    REAL rate, mu, nesterov;

    __device__ Momentum(const REAL* n) : rate(n[0]), mu(n[1]), nesterov(n[2]) {}
    __device__ void operator()(REAL& w, REAL* slot, REAL g) const {
        REAL& u = slot[0];
        u = mu * u + g;
        w -= rate * (nesterov != 0 ? g + mu * u : u);
    }
};

// v <- alpha g^2 + (1 - alpha) v;   w <- w - rate g / (sqrt(v) + epsilon)
struct RMSProp {
    static constexpr int SLOTS = 1, NUMBERS = 4;
    REAL rate, alpha, keep_v, epsilon;

    __device__ RMSProp(const REAL* n) : rate(n[0]), alpha(n[1]), keep_v(n[2]), epsilon(n[3]) {}
    __device__ void operator()(REAL& w, REAL* slot, REAL g) const {
        REAL& v = slot[0];
        v = alpha * g * g + keep_v * v;
        w -= rate * g / (sqrt(v) + epsilon);
    }
};

// m <- beta g + (1 - beta) m;   v as above;   w <- w - rate m / (sqrt(v / v_correction) + epsilon)
struct Adam {
    static constexpr int SLOTS = 2, NUMBERS = 7;
    REAL rate, beta, keep_m, alpha, keep_v, epsilon, v_correction;

    __device__ Adam(const REAL* n)
        : rate(n[0]), beta(n[1]), keep_m(n[2]), alpha(n[3]), keep_v(n[4]), epsilon(n[5]),
          v_correction(n[6]) {}
    __device__ void operator()(REAL& w, REAL* slot, REAL g) const {
        REAL &m = slot[0], &v = slot[1];
        m = beta * g + keep_m * m;
        v = alpha * g * g + keep_v * v;
        w -= rate * m / (sqrt(v / v_correction) + epsilon);
    }
};

// A thread has EACH numbers at a time, and asks for all of them before it waits for the first.
extern "C" __global__ void update_all(const unsigned long long* pointers, const Index* sizes,
                                      const Index* chunks, const REAL* numbers, const REAL* loss,
                                      int chunk) {
    constexpr int EACH = 4, SLOTS = RULE::SLOTS;
    const REAL value = loss[0];
    if (!(value - value == 0)) return;  // NaN or infinity

    const Index tensor = chunks[2 * Index(blockIdx.x)], first = chunks[2 * Index(blockIdx.x) + 1];
    const Index left = sizes[tensor] - first;
    const int count = left < chunk ? left : chunk;
    const unsigned long long* pointer = pointers + tensor * (2 + SLOTS);
    REAL* w = reinterpret_cast<REAL*>(pointer[0]) + first;
    const REAL* g = reinterpret_cast<const REAL*>(pointer[1]) + first;
    REAL* slots[SLOTS + 1];
    for (int s = 0; s < SLOTS; s++) slots[s] = reinterpret_cast<REAL*>(pointer[2 + s]) + first;

    const REAL* number = numbers + tensor * (2 + RULE::NUMBERS);
    const REAL decay = number[0], shrink = number[1];
    const RULE rule(number + 2);
    const int threads = blockDim.x;
    for (int start = threadIdx.x; start < count; start += EACH * threads) {
        REAL now[EACH], change[EACH], kept[EACH][SLOTS + 1];
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const int i = start + e * threads;
            if (i >= count) continue;
            now[e] = w[i];
            change[e] = g[i];
            for (int s = 0; s < SLOTS; s++) kept[e][s] = slots[s][i];
        }
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const int i = start + e * threads;
            if (i >= count) continue;
            if (decay != 0) change[e] += decay * now[e];
            now[e] *= shrink;
            rule(now[e], kept[e], change[e]);
            w[i] = now[e];
            for (int s = 0; s < SLOTS; s++) slots[s][i] = kept[e][s];
        }
    }
}
