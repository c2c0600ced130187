// One thread of an Apple GPU, for a C++ compiler; a row is one thread's, so that there is nothing to exchange.
#include <math.h>
#include <string.h>
// The system's own types of these names differ from machine to machine.
#define uint unsigned int
#define ulong unsigned long long
#define kernel extern "C"
#define device
#define constant const
template <class T, class F> static inline T as_type(F from) { T to; memcpy(&to, &from, sizeof to); return to; }
template <class T> static inline T simd_shuffle_xor(T v, uint) { return v; }
