// Each number by itself: conversions, sums of two arrays, ReLU (report 2.2.2) and its gradient.
//
// A thread takes VEC neighbours at a time, 16 bytes of the narrower type. ACT (float, double or
// bf16), REAL (float or double, at least as wide: all arithmetic) and VEC are compiled in. `packs`
// counts packs of VEC numbers.

#include "bf16.cuh"
#include "each_number.cuh"
#include "packs.cuh"
#include "epilogue.cuh"

extern "C" __global__ void widen(const ACT* x, REAL* y, Index packs) {
    EACH_NUMBER(i, packs) {
        REAL number[VEC];
        load(x + i * VEC, number);
        store(y + i * VEC, number);
    }
}

// To the nearest; a double on its way to bf16 is rounded to float first.
extern "C" __global__ void narrow(const REAL* x, ACT* y, Index packs) {
    EACH_NUMBER(i, packs) {
        REAL number[VEC];
        load(x + i * VEC, number);
        store(y + i * VEC, number);
    }
}

// sum = a + b
extern "C" __global__ void add(const ACT* a, const ACT* b, ACT* sum, Index packs) {
    EACH_NUMBER(i, packs) {
        REAL number[VEC], other[VEC];
        load(a + i * VEC, number);
        load(b + i * VEC, other);
#pragma unroll
        for (int v = 0; v < VEC; v++) number[v] += other[v];
        store(sum + i * VEC, number);
    }
}

// y = max{x, 0}
extern "C" __global__ void relu_of_each(const ACT* x, ACT* y, Index packs) {
    EACH_NUMBER(i, packs) {
        REAL number[VEC];
        load(x + i * VEC, number);
#pragma unroll
        for (int v = 0; v < VEC; v++) number[v] = relu(number[v]);
        store(y + i * VEC, number);
    }
}

// dx = dy where y > 0, else 0 dy: a NaN is not hidden
extern "C" __global__ void relu_gradient(const ACT* dy, const ACT* y, ACT* dx, Index packs) {
    EACH_NUMBER(i, packs) {
        REAL number[VEC], output[VEC];
        load(dy + i * VEC, number);
        load(y + i * VEC, output);
#pragma unroll
        for (int v = 0; v < VEC; v++) number[v] *= REAL(output[v] > 0);
        store(dx + i * VEC, number);
    }
}

// y = max{x, m};   slope = x > m
extern "C" __global__ void relu_and_slope(const ACT* x, ACT* y, bool* slope, REAL m, Index packs) {
    EACH_NUMBER(i, packs) {
        REAL number[VEC];
        bool above[VEC];
        load(x + i * VEC, number);
#pragma unroll
        for (int v = 0; v < VEC; v++) {
            above[v] = number[v] > m;
            if (number[v] <= m) number[v] = m;  // this way round NaN stays
        }
        store(y + i * VEC, number);
        store(slope + i * VEC, above);
    }
}

// dx = slope dy
extern "C" __global__ void times_slope(const ACT* dy, const bool* slope, ACT* dx, Index packs) {
    EACH_NUMBER(i, packs) {
        REAL number[VEC], factor[VEC];
        load(dy + i * VEC, number);
        load(slope + i * VEC, factor);
#pragma unroll
        for (int v = 0; v < VEC; v++) number[v] *= factor[v];
        store(dx + i * VEC, number);
    }
}
