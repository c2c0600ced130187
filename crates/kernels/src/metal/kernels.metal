// Noise and Gumbel-Softmax for Apple GPUs, in single precision.
//
// Compiled at run time by Metal, without fast mathematics; and by a C++ compiler for the test, which runs the kernels on the
// CPU, one thread for each row. A row is shared by `lanes` threads that stand side by side, a power of two up to 32, which are
// of one group of threads that can exchange numbers.

#pragma METAL fp contract(off)

typedef uint u32;
typedef ulong u64;

#define FN static inline

FN float fused(float a, float b, float c) { return fma(a, b, c); }
FN float bits_to_float(int bits) { return as_type<float>(bits); }
FN int float_to_bits(float x) { return as_type<int>(x); }
