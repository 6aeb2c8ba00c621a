// Tensor cores (PTX ISA: mma.sync, ldmatrix). A warp multiplies a piece of two matrices, each of its
// threads holding a few of the numbers in registers, 32 bits each: two bf16 or one TF32 number.
//
//   sum (16, 8) += a (16, k) b (k, 8)        k = 16 of bf16, 8 of TF32: 32 bytes in either case
//
// On the processor the same words are in shim_tensor.cpp.
#ifdef __CUDA_ARCH__

// Four matrices of 8 rows of 16 bytes. Thread i gives the address of row i % 8 of matrix i / 8, and
// gets, of each matrix, the 4 bytes numbered i % 4 of row i / 4.
__device__ __forceinline__ void load_matrices(unsigned (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// The same of 8 x 8 numbers of 16 bits, turned: of column i / 4 the numbers of rows 2 (i % 4) and the
// next one.
__device__ __forceinline__ void load_matrices_turned(unsigned (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

__device__ __forceinline__ void multiply_bf16(float (&sum)[4], const unsigned (&a)[4],
                                              unsigned b0, unsigned b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void multiply_tf32(float (&sum)[4], const unsigned (&a)[4],
                                              unsigned b0, unsigned b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// The bits of a float, rounded to TF32: 11 bits of significand, halves away from zero.
__device__ __forceinline__ unsigned tf32(float x) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}

#endif

// Which of the two is told by the type of the first argument, bf16 or float.
__device__ __forceinline__ void multiply(bf16, float (&sum)[4], const unsigned (&a)[4], unsigned b0,
                                         unsigned b1) {
    multiply_bf16(sum, a, b0, b1);
}
__device__ __forceinline__ void multiply(float, float (&sum)[4], const unsigned (&a)[4], unsigned b0,
                                         unsigned b1) {
    multiply_tf32(sum, a, b0, b1);
}

// What a tensor core is given of a float: rounded to bf16 or to TF32.
__device__ __forceinline__ bf16 operand(bf16, float x) { return bf16(x); }
__device__ __forceinline__ float operand(float, float x) { return __uint_as_float(tf32(x)); }

// Registers that came from memory unrounded: a float still has to be, two bf16 are what they are.
__device__ __forceinline__ void round_operands(bf16, unsigned (&)[4]) {}
__device__ __forceinline__ void round_operands(float, unsigned (&r)[4]) {
    for (int i = 0; i < 4; i++) r[i] = tf32(__uint_as_float(r[i]));
}
