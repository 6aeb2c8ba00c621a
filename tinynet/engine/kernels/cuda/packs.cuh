// Neighbours in memory that are read and written in one go, 16 bytes where they make up as many.
// The launcher sees to it that where a pack begins is a multiple of its size.
template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Pack {
    T at[N];
};

// N numbers, each as a To.
template <int N, class T, class To>
__device__ void load(const T* from, To (&to)[N]) {
    const Pack<T, N> pack = *reinterpret_cast<const Pack<T, N>*>(from);
#pragma unroll
    for (int v = 0; v < N; v++) to[v] = To(pack.at[v]);
}

template <int N, class T, class From>
__device__ void store(T* to, const From (&from)[N]) {
    Pack<T, N> pack;
#pragma unroll
    for (int v = 0; v < N; v++) pack.at[v] = T(from[v]);
    *reinterpret_cast<Pack<T, N>*>(to) = pack;
}
