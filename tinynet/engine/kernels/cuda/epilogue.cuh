// What a ReLU and a max-pool 2x2 make of a number, for every kernel that ends with them.
constexpr unsigned char NO_WINNER = 4;  // the winner of a window whose four cells are all <= 0

__device__ inline REAL relu(REAL z) { return z <= 0 ? REAL(0) : z; }  // this way round NaN stays

// best and winner after cell q, in the order 0 ... 3: the first of equals wins, a NaN over numbers.
__device__ inline void keep_larger(int q, REAL z, REAL& best, unsigned char& winner) {
    if (q == 0 || z > best || z != z) best = z, winner = q;
}
