// How gradients change the weights (report 2.3.3-4): each number is read once and written once. The
// references make an array for every operation, eight trips to memory more.
//
// All arrays have `size` numbers. REAL (float or double) is compiled in; keep_m and keep_v are 1 - beta
// and 1 - alpha, taken in double precision before they are rounded.

#include "each_number.cuh"

// w <- w - rate g
extern "C" __global__ void gradient_descent_update(REAL* w, const REAL* g, REAL rate,
                                                   Index size) {
    EACH_NUMBER(i, size) w[i] -= rate * g[i];
}

// u <- mu u + g;   w <- w - rate u, or with NESTEROV w - rate (g + mu u)
extern "C" __global__ void momentum_update(REAL* w, REAL* u, const REAL* g, REAL rate, REAL mu,
                                           int nesterov, Index size) {
    EACH_NUMBER(i, size) {
        u[i] = mu * u[i] + g[i];
        w[i] -= rate * (nesterov ? g[i] + mu * u[i] : u[i]);
    }
}

// v <- alpha g^2 + (1 - alpha) v;   w <- w - rate g / (sqrt(v) + epsilon)
extern "C" __global__ void rmsprop_update(REAL* w, REAL* v, const REAL* g, REAL rate, REAL alpha,
                                          REAL keep_v, REAL epsilon, Index size) {
    EACH_NUMBER(i, size) {
        v[i] = alpha * g[i] * g[i] + keep_v * v[i];
        w[i] -= rate * g[i] / (sqrt(v[i]) + epsilon);
    }
}

// m <- beta g + (1 - beta) m;   v as above;   w <- w - rate m / (sqrt(v / v_correction) + epsilon)
extern "C" __global__ void adam_update(REAL* w, REAL* m, REAL* v, const REAL* g, REAL rate,
                                       REAL beta, REAL keep_m, REAL alpha, REAL keep_v,
                                       REAL epsilon, REAL v_correction, Index size) {
    EACH_NUMBER(i, size) {
        m[i] = beta * g[i] + keep_m * m[i];
        v[i] = alpha * g[i] * g[i] + keep_v * v[i];
        w[i] -= rate * m[i] / (sqrt(v[i] / v_correction) + epsilon);
    }
}
