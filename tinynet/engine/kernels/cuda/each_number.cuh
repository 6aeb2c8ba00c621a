// For kernels that make each number of an array by itself: thread after thread, and again from the
// front where there are more numbers than threads.
typedef long long Index;  // an array may hold more numbers than an int can count

#define EACH_NUMBER(i, size)                                                                       \
    for (Index i = blockIdx.x * Index(blockDim.x) + threadIdx.x; i < size;                         \
         i += Index(gridDim.x) * blockDim.x)
