// What is beside the product in an affine map.

enum Activation { IDENTITY, RELU, TANH };

// `f(x + bias)` of rows of `k`.
KERNEL activate(const float* x, const float* bias, float* y, u64 n, u32 k, u32 activation) {
    for (u64 i = thread(); i < n; i += threads()) {
        float sum = x[i] + bias[i % k];
        // A NaN stays one.
        y[i] = activation == RELU ? (sum < 0.f ? 0.f : sum) : activation == TANH ? tanhf(sum) : sum;
    }
}

// `g f'`, by the value `y` of `f`.
KERNEL activation_slopes(const float* y, const float* g, float* d, u64 n, u32 activation) {
    for (u64 i = thread(); i < n; i += threads()) {
        d[i] = activation == RELU ? (y[i] <= 0.f ? 0.f : g[i]) : activation == TANH ? g[i] * (1.f - y[i] * y[i]) : g[i];
    }
}
