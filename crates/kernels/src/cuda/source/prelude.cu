// The operations of this crate for NVIDIA GPUs, in single precision.
//
// Compiled at run time by NVRTC, without headers and with `--fmad=false`; and by a C++ compiler for the test, which runs the
// kernels on the CPU, one thread after the other, against the CPU's own.

typedef unsigned int u32;
typedef unsigned long long u64;

#define FN static __device__ __forceinline__
#define KERNEL extern "C" __global__ void

FN float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
FN float bits_to_float(int bits) { return __int_as_float(bits); }
FN int float_to_bits(float x) { return __float_as_int(x); }

FN u64 thread() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }
FN u64 threads() { return (u64)gridDim.x * blockDim.x; }
