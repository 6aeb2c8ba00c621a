// How kernels over an array (rows, channels) divide it, channels last in memory.
//
// A thread takes VEC neighbouring channels, so that what it knows of a channel stays in registers,
// and rows ROWS apart. A block has COLUMNS x ROWS threads and takes `chunk` rows; where COLUMNS
// threads cover all channels, the block reads one run of memory. Grid: (groups of COLUMNS VEC
// channels, chunks).
//
// Sums over the rows have two stages: a thread adds up its rows, a block its threads by a tree, and
// FINISH_ROWS x FINISH_COLUMNS threads of a second kernel add up the blocks' parts. The order is
// fixed by the sizes, so that the bits are always the same.
//
// Compiled in: VEC, COLUMNS, ROWS, FINISH_COLUMNS, FINISH_ROWS; REAL (float or double), of all
// sums.

// What a thread of the first stage takes.
struct Share {
    int channel;  // the first of VEC
    bool inside;  // false: this thread is beyond the last channel, and has no rows
    Index first;  // row; the next ones are ROWS apart
    int count;    // of rows

    __device__ Share(Index rows, int channels, Index chunk) {
        channel = (blockIdx.x * COLUMNS + threadIdx.x) * VEC;
        inside = channel < channels;
        first = blockIdx.y * chunk + threadIdx.y;
        const Index end = (blockIdx.y + 1) * chunk, last = end < rows ? end : rows;
        count = inside && first < last ? int((last - first + ROWS - 1) / ROWS) : 0;
    }
};

// mine <- the numbers of all threads of this column, added up by a tree; in the threads of row 0. T
// has no constructor, and add(other).
template <int WIDE, int HIGH, int N, class T>
__device__ void add_up_rows(T (&mine)[N]) {
    __shared__ T all[HIGH][WIDE][N];
    const int x = threadIdx.x, y = threadIdx.y;
    for (int v = 0; v < N; v++) all[y][x][v] = mine[v];
    for (int half = 1; half < HIGH; half *= 2) {
        __syncthreads();
        if (y % (2 * half) == 0 && y + half < HIGH)
            for (int v = 0; v < N; v++) all[y][x][v].add(all[y + half][x][v]);
    }
    if (y == 0)  // written by this thread itself
        for (int v = 0; v < N; v++) mine[v] = all[0][x][v];
}

// The channel of a thread of the second stage.  Grid: groups of FINISH_COLUMNS channels.
__device__ inline int channel_to_finish() { return blockIdx.x * FINISH_COLUMNS + threadIdx.x; }
