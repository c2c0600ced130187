// Updates and norms of many tensors in one launch: the second number of a block says which.

#define MANY 96

struct AdamStep {
    float beta1, rest1, beta2, rest2, shrink, rate, scale, epsilon;
};

struct AdamTensors {
    float *parameter[MANY], *m[MANY], *v[MANY];
    const float* gradient[MANY];
    u64 n[MANY];
};

KERNEL adam(AdamTensors all, AdamStep step) {
    float *parameter = all.parameter[blockIdx.y], *m = all.m[blockIdx.y], *v = all.v[blockIdx.y];
    const float* gradient = all.gradient[blockIdx.y];
    u64 n = all.n[blockIdx.y];
    for (u64 i = thread(); i < n; i += threads()) {
        float g = gradient[i];
        float next_m = step.beta1 * m[i] + step.rest1 * g;
        float next_v = step.beta2 * v[i] + step.rest2 * g * g;
        m[i] = next_m;
        v[i] = next_v;
        parameter[i] = step.shrink * parameter[i] - step.rate * next_m / (step.scale * sqrtf(next_v) + step.epsilon);
    }
}

struct Tensors {
    const float* x[MANY];
    u64 n[MANY];
};

// Sums of squares, as many for each tensor as there are blocks for it.
KERNEL sums_of_squares(Tensors all, double* sums) {
    const float* x = all.x[blockIdx.y];
    u64 n = all.n[blockIdx.y];
    double sum = 0.;
    for (u64 i = thread(); i < n; i += threads()) {
        sum += (double)x[i] * (double)x[i];
    }
    sum = total_double(sum, blockDim.x);
    if (threadIdx.x == 0) sums[(u64)blockIdx.y * gridDim.x + blockIdx.x] = sum;
}
