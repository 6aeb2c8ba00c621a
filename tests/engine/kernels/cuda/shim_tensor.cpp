// What is behind the words of pipeline.cuh and tensor_core.cuh in shim.h, after the PTX ISA: which
// thread of a warp holds which numbers, and what its copies have done when.
//
// A copy to shared memory is made when its thread waits for it and not before, so that a kernel that
// waits too little reads old numbers. With -DEAGER it is made at once, so that one that asks too early
// overwrites what others still read. Both may happen on a GPU.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <vector>

#include "shim.h"

static void must(bool so, const char* what) {
    if (so) return;
    std::fprintf(stderr, "a GPU would stop here: %s\n", what);
    std::abort();
}

static bool aligned(const void* at) { return reinterpret_cast<std::uintptr_t>(at) % 16 == 0; }

struct Copy {
    void* to;
    const void* from;

    void make() const {
        if (from)
            std::memcpy(to, from, 16);
        else
            std::memset(to, 0, 16);
    }
};

struct Thread {
    std::deque<std::vector<Copy>> groups{{}};  // the last one is not closed
    unsigned turn = 0;
};

static std::vector<Thread> all_threads;

void begin_copies() { all_threads.assign(blockDim.x * blockDim.y * blockDim.z, Thread()); }

void copy_16(void* to, const void* from, bool real) {
    must(aligned(to) && aligned(from), "copy_16: an address is no multiple of 16");
    const auto offset = static_cast<unsigned char*>(to) - shared_bytes;
    must(offset >= 0 && offset + 16 <= long(shared_size), "copy_16: outside of shared memory");
    const Copy copy{to, real ? from : nullptr};
#ifdef EAGER
    copy.make();
#else
    all_threads[linear_thread].groups.back().push_back(copy);
#endif
}

void close_group() { all_threads[linear_thread].groups.emplace_back(); }

void wait_for_groups(unsigned latest) {
    auto& groups = all_threads[linear_thread].groups;
    while (groups.size() > latest + 1) {
        for (const Copy& copy : groups.front()) copy.make();
        groups.pop_front();
    }
}

// What the 32 threads of a warp show each other. Two boards in turn: who writes the one has met the
// others since they read it.
struct Board {
    struct Sheet {
        const void* row;
        unsigned a[4], b[2];
    } sheets[2][32];
};

static inline const Board::Sheet* exchanged(const Board::Sheet& mine) {
    static Board boards[32];  // a block has 32 warps at most
    Board& board = boards[linear_thread / 32];
    auto& sheets = board.sheets[all_threads[linear_thread].turn++ % 2];
    sheets[linear_thread % 32] = mine;
    meet_warp();
    return sheets;
}

template <bool TURNED>
static inline void matrices(unsigned (&r)[4], const void* row) {
    must(aligned(row), "ldmatrix: an address is no multiple of 16");
    const Board::Sheet* all = exchanged({row, {}, {}});
    const int lane = linear_thread % 32;
#ifdef NO_CONFLICTS
    for (int m = 0; m < 4; m++) {  // eight rows of 16 bytes come at once from the eight groups of banks
        unsigned groups_of_banks = 0;
        for (int i = 0; i < 8; i++)
            groups_of_banks |= 1u << reinterpret_cast<std::uintptr_t>(all[m * 8 + i].row) / 16 % 8;
        must(groups_of_banks == 0xff, "ldmatrix: two rows share their banks");
    }
#endif
    for (int m = 0; m < 4; m++) {
        unsigned short two[2];
        for (int e = 0; e < 2; e++) {
            const int i = TURNED ? lane % 4 * 2 + e : lane / 4;
            const int j = TURNED ? lane / 4 : lane % 4 * 2 + e;
            std::memcpy(&two[e], static_cast<const char*>(all[m * 8 + i].row) + 2 * j, 2);
        }
        r[m] = two[0] | unsigned(two[1]) << 16;
    }
}

void load_matrices(unsigned (&r)[4], const void* row) { matrices<false>(r, row); }
void load_matrices_turned(unsigned (&r)[4], const void* row) {
    matrices<true>(r, row);
}

// Halves away from zero; a NaN stays one.
unsigned tf32(float x) {
    return x != x ? 0x7fffffffu : (__float_as_uint(x) + 0x1000u) & 0xffffe000u;
}

// mma.m16n8k16 of bf16: with g = lane / 4 and t = lane % 4, register i of a holds row g + 8 (i % 2),
// columns 2 t + 8 (i / 2) and the next; register i of b rows 2 t + 8 i and the next, column g; sum i
// is row g + 8 (i / 2), column 2 t + i % 2.
void multiply_bf16(float (&sum)[4], const unsigned (&a)[4], unsigned b0,
                                 unsigned b1) {
    const Board::Sheet* all = exchanged({nullptr, {a[0], a[1], a[2], a[3]}, {b0, b1}});
    const int g = linear_thread % 32 / 4, t = linear_thread % 4;
    const auto half = [](unsigned both, int k) {
        return __uint_as_float(k % 2 ? both & 0xffff0000u : both << 16);
    };
    for (int i = 0; i < 4; i++) {
        const int row = g + 8 * (i / 2), column = 2 * t + i % 2;
        for (int k = 0; k < 16; k++)
            sum[i] += half(all[row % 8 * 4 + k % 8 / 2].a[row / 8 + k / 8 * 2], k) *
                      half(all[column * 4 + k % 8 / 2].b[k / 8], k);
    }
}

// mma.m16n8k8 of TF32: register i of a holds row g + 8 (i % 2), column t + 4 (i / 2); register i of b
// row t + 4 i, column g; the sums as above. The 13 low bits are not looked at.
void multiply_tf32(float (&sum)[4], const unsigned (&a)[4], unsigned b0,
                                 unsigned b1) {
    const Board::Sheet* all = exchanged({nullptr, {a[0], a[1], a[2], a[3]}, {b0, b1}});
    const int g = linear_thread % 32 / 4, t = linear_thread % 4;
    const auto seen = [](unsigned bits) { return __uint_as_float(bits & 0xffffe000u); };
    for (int i = 0; i < 4; i++) {
        const int row = g + 8 * (i / 2), column = 2 * t + i % 2;
        for (int k = 0; k < 8; k++)
            sum[i] += seen(all[row % 8 * 4 + k % 4].a[row / 8 + k / 4 * 2]) *
                      seen(all[column * 4 + k % 4].b[k / 4]);
    }
}
