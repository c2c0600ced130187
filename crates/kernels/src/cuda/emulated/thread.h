// The threads of a block of a GPU, for a C++ compiler: one of the system's threads each, that wait for each other where a GPU
// exchanges numbers.
#include <math.h>
#include <pthread.h>
#include <string.h>
#define __device__
#define __global__
#define __forceinline__ inline
#define __shared__ static
struct Dim { unsigned x, y; };
static thread_local Dim blockIdx, blockDim, gridDim, threadIdx;
static pthread_barrier_t all_threads;
static char slots[1024][16];
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __int_as_float(int i) { float x; memcpy(&x, &i, 4); return x; }
static inline int __float_as_int(float x) { int i; memcpy(&i, &x, 4); return i; }
static inline void __syncthreads() { pthread_barrier_wait(&all_threads); }
template <class T> static inline T __shfl_xor_sync(unsigned, T v, unsigned off) {
    memcpy(slots[threadIdx.x], &v, sizeof v);
    __syncthreads();
    memcpy(&v, slots[threadIdx.x ^ off], sizeof v);
    __syncthreads();
    return v;
}
extern "C" void begin(unsigned threads) { pthread_barrier_init(&all_threads, 0, threads); }
extern "C" void end() { pthread_barrier_destroy(&all_threads); }
extern "C" void at(unsigned block, unsigned blocks, unsigned thread, unsigned threads, unsigned tensor) {
    blockIdx.x = block, blockIdx.y = tensor, gridDim.x = blocks, threadIdx.x = thread, blockDim.x = threads;
}
