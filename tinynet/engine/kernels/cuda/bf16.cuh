// bfloat16: the upper half of a float. Eight bits of exponent, as a float has, and eight of the
// significand, one of them not stored. Activations may be kept so; all arithmetic is in float.
struct bf16 {
    unsigned short bits;

    bf16() = default;
    __device__ bf16(float x) {  // to the nearest, of two as near the even one
#ifdef __CUDA_ARCH__
        asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
#else
        const unsigned whole = __float_as_uint(x);
        bits = x != x ? 0x7fff : (whole + 0x7fff + (whole >> 16 & 1)) >> 16;
#endif
    }
    __device__ operator float() const { return __uint_as_float(unsigned(bits) << 16); }
};
