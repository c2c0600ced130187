// The operations of this crate for NVIDIA GPUs, in single precision.
//
// Compiled at run time by NVRTC, without headers; and by a C++ compiler for the test, which runs the kernels on the CPU, one
// thread after the other, against the CPU's own. Functions of one number do what those of math.rs do, step by step, with the
// same constants, so that noise has the same bits on both; that needs `--fmad=false`, and fused multiply-adds written out.
//
// A row is shared by `lanes` threads that stand side by side: a power of two up to 32, or a whole block.

typedef unsigned int u32;
typedef unsigned long long u64;

#define FN static __device__ __forceinline__
#define KERNEL extern "C" __global__ void

FN float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
FN float bits_to_float(int bits) { return __int_as_float(bits); }
FN int float_to_bits(float x) { return __float_as_int(x); }
FN float infinity() { return bits_to_float(0x7f800000); }
FN float larger(float a, float b) { return a > b ? a : b; }

// ---- math.rs ----

struct Split {
    float r, e;
};

FN Split split(float x) {
    int bits = float_to_bits(x) - 0x3f3504f3;
    Split s;
    s.r = bits_to_float((bits & 0x007fffff) + 0x3f3504f3) - 1.f;
    s.e = (float)(bits >> 23);
    return s;
}

FN float ln_of_split(float r, float e) {
    float square = r * r, fourth = square * square;
    float low = fused(r, -2.4999994e-1f, 0.3333333f);
    low = fused(square, fused(r, -1.6668058e-1f, 2.0000715e-1f), low);
    float high = fused(r, -1.2420141e-1f, 1.4249323e-1f);
    high = fused(square, fused(r, -1.151461e-1f, 1.16769987e-1f), high);
    float p = fused(fourth, fused(fourth, 7.0376836e-2f, high), low);
    float y = fused(square, fused(p, r, -0.5f), e * -2.1219444e-4f);
    return fused(e, 0.6933594f, r + y);
}

FN float ln_normal(float x) {
    Split s = split(x);
    return ln_of_split(s.r, s.e);
}

FN float ln(float x) {
    bool small = x < 1.17549435e-38f;
    Split s = split(small ? x * 33554432.f : x);
    float y = ln_of_split(s.r, s.e - (small ? 25.f : 0.f));
    y = x == infinity() ? x : y;
    y = x == 0.f ? -infinity() : y;
    return x < 0.f || x != x ? bits_to_float(0x7fc00000) : y;
}

FN float power_of_two(int n) { return bits_to_float((n + 127) << 23); }

FN float exponential(float x) {
    // Comparisons with a NaN fail, so that it stays one.
    x = x < -105.f ? -105.f : x;
    x = x > 89.f ? 89.f : x;
    const float round = 12582912.f;
    float shifted = fused(x, 1.44269504f, round);
    float n = shifted - round;
    float r = fused(n, 2.1219444e-4f, fused(n, -0.6933594f, x));
    float square = r * r;
    float low = fused(r, 1.6666665e-1f, 0.5f);
    float middle = fused(r, 8.333452e-3f, 4.1665796e-2f);
    float high = fused(r, 1.9875691e-4f, 1.3982e-3f);
    float p = fused(square, fused(square, high, middle), low);
    float y = fused(p, square, r) + 1.f;
    int whole = float_to_bits(shifted) - float_to_bits(round);
    int half = whole >> 1;
    return y * power_of_two(half) * power_of_two(whole - half);
}

FN float ln_1p(float x) {
    float u = 1.f + x, d = u - 1.f;
    float y = ln(u) * (x / d);
    y = u == infinity() ? u : y;
    return d == 0.f ? x : y;
}

FN float absolute(float x) { return bits_to_float(float_to_bits(x) & 0x7fffffff); }

FN float sigmoid(float x) {
    float e = exponential(-absolute(x));
    return (x >= 0.f ? 1.f : e) / (1.f + e);
}

FN float softplus(float x) { return (x > 0.f ? x : 0.f) + ln_1p(exponential(-absolute(x))); }

// ---- philox.rs, key.rs ----

// Names a stream: the two words of the key, and the two of the counter that are not the block's number.
struct Stream {
    u32 key[2], nonce[2];
};

struct Block {
    u32 word[4];
};

FN Block block_of(Stream s, u64 number) {
    u32 c0 = (u32)number, c1 = (u32)(number >> 32), c2 = s.nonce[0], c3 = s.nonce[1];
    u32 k0 = s.key[0], k1 = s.key[1];
    for (int round = 0; round < 10; round++) {
        u64 a = 0xD2511F53ull * c0, b = 0xCD9E8D57ull * c2;
        c0 = (u32)(b >> 32) ^ c1 ^ k0;
        c1 = (u32)b;
        c2 = (u32)(a >> 32) ^ c3 ^ k1;
        c3 = (u32)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    Block out = {{c0, c1, c2, c3}};
    return out;
}

FN u32 word_of(Stream s, u64 index) { return block_of(s, index >> 2).word[index & 3]; }

// ---- noise.rs ----

// The smaller of `u` and `1 - u`, and whether that is `1 - u`.
struct Tail {
    float t;
    bool upper;
};

FN Tail tail(u32 word) {
    Tail out;
    out.upper = word >> 31 == 1u;
    out.t = ((float)(int)(out.upper ? ~word : word) + 0.5f) * 2.3283064365386963e-10f;
    return out;
}

FN float minus_ln_of_tail(float t, bool upper) {
    if (!upper) {
        return -ln_normal(t);
    }
    bool near = t <= 0.2928932f;
    return -ln_of_split(near ? -t : 1.f - 2.f * t, near ? 0.f : -1.f);
}

FN float gumbel(u32 word) {
    Tail u = tail(word);
    return -ln_normal(minus_ln_of_tail(u.t, u.upper));
}

FN float logistic(u32 word) {
    Tail u = tail(word);
    float size = minus_ln_of_tail(u.t, false) - minus_ln_of_tail(u.t, true);
    return u.upper ? size : -size;
}

FN double uniform(u32 word) { return ((double)word + 0.5) * 2.3283064365386963e-10; }

FN double exponential_noise(u32 word) {
    bool upper = word >> 31 == 1u;
    double t = ((double)(int)(upper ? ~word : word) + 0.5) * 2.3283064365386963e-10;
    return upper ? -log1p(-t) : -log(t);
}

enum Noise { UNIFORM, GUMBEL, LOGISTIC, NORMAL };

FN u64 thread() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }
FN u64 threads() { return (u64)gridDim.x * blockDim.x; }

// Numbers `0..n` of a stream, a block of Philox at a time.
KERNEL fill(float* out, u64 n, u32 noise, Stream stream) {
    for (u64 block = thread(); block * 4 < n; block += threads()) {
        Block b = block_of(stream, block);
        float values[4];
        for (int i = 0; i < 4; i++) {
            u32 w = b.word[i];
            values[i] = noise == UNIFORM ? (float)uniform(w) : noise == GUMBEL ? gumbel(w) : logistic(w);
        }
        if (noise == NORMAL) {
            for (int i = 0; i < 4; i += 2) {
                double radius = sqrt(2. * exponential_noise(b.word[i]));
                double angle = 6.283185307179586 * uniform(b.word[i + 1]);
                values[i] = (float)(radius * cos(angle));
                values[i + 1] = (float)(radius * sin(angle));
            }
        }
        for (int i = 0; i < 4 && block * 4 + i < n; i++) {
            out[block * 4 + i] = values[i];
        }
    }
}

// ---- rows ----

// `combine` over the threads of a row; all of the block take part.
#define REDUCE(name, type, combine)                                                                                             \
    FN type name(type v, u32 lanes) {                                                                                           \
        for (u32 off = (lanes < 32 ? lanes : 32) / 2; off > 0; off /= 2) {                                                      \
            type other = from_lane(v, off);                                                                                     \
            v = combine(v, other);                                                                                              \
        }                                                                                                                       \
        if (lanes > 32) {                                                                                                       \
            __shared__ type part[32];                                                                                           \
            u32 parts = lanes / 32;                                                                                             \
            __syncthreads();                                                                                                    \
            if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;                                                              \
            __syncthreads();                                                                                                    \
            v = part[threadIdx.x % parts];                                                                                      \
            for (u32 off = parts / 2; off > 0; off /= 2) {                                                                      \
                type other = from_lane(v, off);                                                                                 \
                v = combine(v, other);                                                                                          \
            }                                                                                                                   \
        }                                                                                                                       \
        return v;                                                                                                               \
    }

FN float from_lane(float v, u32 off) { return __shfl_xor_sync(0xffffffffu, v, off); }

// The largest of some numbers, and where it is.
struct Top {
    float value;
    u32 at;
};

FN Top from_lane(Top v, u32 off) {
    Top out;
    out.value = __shfl_xor_sync(0xffffffffu, v.value, off);
    out.at = __shfl_xor_sync(0xffffffffu, v.at, off);
    return out;
}

FN Top first_top(Top a, Top b) { return b.value > a.value || (b.value == a.value && b.at < a.at) ? b : a; }

// The largest of some numbers, and the sum of `e^(x - largest)`; `-inf` and 0 of none.
struct LogSum {
    float top, sum;
};

FN LogSum from_lane(LogSum v, u32 off) {
    LogSum out;
    out.top = __shfl_xor_sync(0xffffffffu, v.top, off);
    out.sum = __shfl_xor_sync(0xffffffffu, v.sum, off);
    return out;
}

FN LogSum log_sum_of_both(LogSum a, LogSum b) {
    float top = larger(a.top, b.top);
    float base = top == -infinity() ? 0.f : top;
    LogSum out;
    out.top = top;
    out.sum = a.sum * exponential(a.top - base) + b.sum * exponential(b.top - base);
    return out;
}

FN LogSum log_sum_with(LogSum a, float x) {
    LogSum one;
    one.top = x;
    one.sum = x == -infinity() ? 0.f : 1.f;
    // A NaN is no larger than anything, but stays in the sum.
    return x <= a.top ? log_sum_of_both(a, one) : log_sum_of_both(one, a);
}

FN float sum_of_both(float a, float b) { return a + b; }

REDUCE(total, float, sum_of_both)
REDUCE(total_top, Top, first_top)
REDUCE(total_log_sum, LogSum, log_sum_of_both)

// The same of a row that `lanes` threads share.
FN LogSum log_sum_of_row(const float* x, u32 k, u32 lanes, u32 lane) {
    LogSum all = {-infinity(), 0.f};
    for (u32 j = lane; j < k; j += lanes) {
        all = log_sum_with(all, x[j]);
    }
    return total_log_sum(all, lanes);
}

// The row of this thread and the number of the thread in it; rows past the end repeat the last one, and are not written.
struct Place {
    u64 row;
    u32 lane;
    bool live;
};

FN Place place(u64 rows, u32 lanes) {
    Place out;
    u64 row = thread() / lanes;
    out.live = row < rows;
    out.row = out.live ? row : rows - 1;
    out.lane = (u32)(thread() % lanes);
    return out;
}

// Softmax of rows of `k`, or its logarithm.
KERNEL softmax(const float* x, float* y, u64 rows, u32 k, u32 lanes, u32 logarithm) {
    Place p = place(rows, lanes);
    const float* from = x + p.row * k;
    LogSum all = log_sum_of_row(from, k, lanes, p.lane);
    float rest = logarithm ? ln(all.sum) : 1.f / all.sum;
    for (u32 j = p.lane; p.live && j < k; j += lanes) {
        float centred = from[j] - all.top;
        y[p.row * k + j] = logarithm ? centred - rest : exponential(centred) * rest;
    }
}

// The gradient of the logarithm of a softmax `y`: `g - e^y Σ g`.
KERNEL log_softmax_slopes(const float* y, const float* g, float* d, u64 rows, u32 k, u32 lanes) {
    Place p = place(rows, lanes);
    float sum = 0.f;
    for (u32 j = p.lane; j < k; j += lanes) {
        u64 i = p.row * k + j;
        // A masked category takes no part, whatever its gradient.
        sum += y[i] == -infinity() ? 0.f : g[i];
    }
    sum = total(sum, lanes);
    for (u32 j = p.lane; p.live && j < k; j += lanes) {
        u64 i = p.row * k + j;
        d[i] = y[i] == -infinity() ? 0.f : g[i] - exponential(y[i]) * sum;
    }
}

// The gradient of a softmax `y` of logits times `inverse`, of which each of `rows` rows serves `repeats` rows of `y`:
// `Σ_s y (g - <g, y>) inverse`.
KERNEL softmax_slopes(const float* y, const float* g, float* d, u64 rows, u64 repeats, u32 k, u32 lanes, float inverse) {
    Place p = place(rows, lanes);
    for (u32 j = p.lane; p.live && j < k; j += lanes) {
        d[p.row * k + j] = 0.f;
    }
    for (u64 s = 0; s < repeats; s++) {
        u64 start = (s * rows + p.row) * k;
        float dot = 0.f;
        for (u32 j = p.lane; j < k; j += lanes) {
            dot += y[start + j] * g[start + j];
        }
        dot = total(dot, lanes);
        for (u32 j = p.lane; p.live && j < k; j += lanes) {
            d[p.row * k + j] += y[start + j] * (g[start + j] - dot) * inverse;
        }
    }
}

// `softmax((logits + G) inverse)`, or the one-hot vector of its largest entry. A row without a category left is NaN.
KERNEL gumbel_softmax(
    const float* logits, float* y, u64 rows, u64 inputs, u32 k, u32 lanes, float inverse, u32 hard, Stream stream
) {
    Place p = place(rows, lanes);
    const float* from = logits + p.row % inputs * k;
    u64 start = p.row * k;
    if (hard) {
        Top top = {-infinity(), 0xffffffffu};
        for (u32 j = p.lane; j < k; j += lanes) {
            Top here = {(gumbel(word_of(stream, start + j)) + from[j]) * inverse, j};
            top = first_top(top, here);
        }
        top = total_top(top, lanes);
        for (u32 j = p.lane; p.live && j < k; j += lanes) {
            float at_top = top.value > -infinity() ? 1.f : bits_to_float(0x7fc00000);
            y[start + j] = j == top.at || top.value == -infinity() ? at_top : 0.f;
        }
        return;
    }
    LogSum all = {-infinity(), 0.f};
    for (u32 j = p.lane; j < k; j += lanes) {
        float score = (gumbel(word_of(stream, start + j)) + from[j]) * inverse;
        if (p.live) y[start + j] = score;
        all = log_sum_with(all, score);
    }
    all = total_log_sum(all, lanes);
    for (u32 j = p.lane; p.live && j < k; j += lanes) {
        y[start + j] = exponential(y[start + j] - all.top) / all.sum;
    }
}

// `Σ_d (x_d l_d - ln(1 + e^{l_d}))`; row `r` reads row `r` of the logits and of the data, counted modulo theirs.
KERNEL bernoulli_log_prob(const float* l, const float* x, float* y, u64 rows, u64 of_logits, u64 of_data, u32 d, u32 lanes) {
    Place p = place(rows, lanes);
    const float *logits = l + p.row % of_logits * d, *data = x + p.row % of_data * d;
    float sum = 0.f;
    for (u32 j = p.lane; j < d; j += lanes) {
        sum += data[j] * logits[j] - softplus(logits[j]);
    }
    sum = total(sum, lanes);
    if (p.live && p.lane == 0) y[p.row] = sum;
}

// `g (x - σ(l))`, summed over the rows that share a row of logits.
KERNEL bernoulli_slopes_of_logits(
    const float* l, const float* x, const float* g, float* out, u64 rows, u64 of_logits, u64 of_data, u32 d
) {
    for (u64 i = thread(); i < of_logits * d; i += threads()) {
        float p = sigmoid(l[i]), sum = 0.f;
        for (u64 row = i / d; row < rows; row += of_logits) {
            sum += g[row] * (x[row % of_data * d + i % d] - p);
        }
        out[i] = sum;
    }
}

// `g l`, summed over the rows that share a row of data.
KERNEL bernoulli_slopes_of_data(const float* l, const float* g, float* out, u64 rows, u64 of_logits, u64 of_data, u32 d) {
    for (u64 i = thread(); i < of_data * d; i += threads()) {
        float sum = 0.f;
        for (u64 row = i / d; row < rows; row += of_data) {
            sum += g[row] * l[row % of_logits * d + i % d];
        }
        out[i] = sum;
    }
}

// `Σ_k q_k (log q_k - log p_k)`; row `r` reads row `r` of both logits, counted modulo theirs.
KERNEL categorical_kl(const float* q, const float* p, float* y, u64 rows, u64 of_q, u64 of_p, u32 k, u32 lanes) {
    Place at = place(rows, lanes);
    const float *to = q + at.row % of_q * k, *from = p + at.row % of_p * k;
    LogSum all_q = log_sum_of_row(to, k, lanes, at.lane), all_p = log_sum_of_row(from, k, lanes, at.lane);
    float rest_q = ln(all_q.sum), rest_p = ln(all_p.sum), sum = 0.f;
    for (u32 j = at.lane; j < k; j += lanes) {
        float log_q = to[j] - all_q.top - rest_q, prob = exponential(log_q);
        // Where `q` is 0 nothing is lost, whatever `p` is; a NaN is kept.
        sum += prob == 0.f ? 0.f : prob * (log_q - (from[j] - all_p.top - rest_p));
    }
    sum = total(sum, lanes);
    if (at.live && at.lane == 0) y[at.row] = sum;
}

// `g q (log q - log p - KL)`, summed over the rows that share a row of logits of `q`.
KERNEL categorical_kl_slopes_of_q(
    const float* q, const float* p, const float* y, const float* g, float* d, u64 rows, u64 of_q, u64 of_p, u32 k, u32 lanes
) {
    Place at = place(of_q, lanes);
    const float* to = q + at.row * k;
    LogSum all_q = log_sum_of_row(to, k, lanes, at.lane);
    float rest_q = ln(all_q.sum);
    for (u32 j = at.lane; at.live && j < k; j += lanes) {
        d[at.row * k + j] = 0.f;
    }
    for (u64 row = at.row; row < rows; row += of_q) {
        const float* from = p + row % of_p * k;
        LogSum all_p = log_sum_of_row(from, k, lanes, at.lane);
        float rest_p = ln(all_p.sum);
        for (u32 j = at.lane; at.live && j < k; j += lanes) {
            float log_q = to[j] - all_q.top - rest_q, prob = exponential(log_q);
            float ratio = log_q - (from[j] - all_p.top - rest_p);
            d[at.row * k + j] += prob == 0.f ? 0.f : g[row] * prob * (ratio - y[row]);
        }
    }
}

// `g (p - q)`, summed over the rows that share a row of logits of `p`.
KERNEL categorical_kl_slopes_of_p(
    const float* q, const float* p, const float* g, float* d, u64 rows, u64 of_q, u64 of_p, u32 k, u32 lanes
) {
    Place at = place(of_p, lanes);
    const float* from = p + at.row * k;
    LogSum all_p = log_sum_of_row(from, k, lanes, at.lane);
    for (u32 j = at.lane; at.live && j < k; j += lanes) {
        d[at.row * k + j] = 0.f;
    }
    for (u64 row = at.row; row < rows; row += of_p) {
        const float* to = q + row % of_q * k;
        LogSum all_q = log_sum_of_row(to, k, lanes, at.lane);
        for (u32 j = at.lane; at.live && j < k; j += lanes) {
            float prob_p = exponential(from[j] - all_p.top) / all_p.sum;
            float prob_q = exponential(to[j] - all_q.top) / all_q.sum;
            d[at.row * k + j] += g[row] * (prob_p - prob_q);
        }
    }
}

// `ln Σ_j e^x_j - x_target`; beside it, in pairs, the largest of each row and what is to be added to it.
KERNEL cross_entropy(const float* x, const u32* targets, float* y, float* log_sums, u64 rows, u32 k, u32 lanes) {
    Place p = place(rows, lanes);
    const float* from = x + p.row * k;
    LogSum all = log_sum_of_row(from, k, lanes, p.lane);
    if (p.live && p.lane == 0) {
        float rest = ln(all.sum);
        log_sums[2 * p.row] = all.top;
        log_sums[2 * p.row + 1] = rest;
        y[p.row] = (all.top - from[targets[p.row]]) + rest;
    }
}

// `g (softmax - one-hot)`; 0 where a logit is masked.
KERNEL cross_entropy_slopes(
    const float* x, const u32* targets, const float* log_sums, const float* g, float* d, u64 rows, u32 k
) {
    for (u64 i = thread(); i < rows * k; i += threads()) {
        u64 row = i / k;
        float prob = exponential((x[i] - log_sums[2 * row]) - log_sums[2 * row + 1]);
        bool here = i % k == targets[row] && x[i] > -infinity();
        d[i] = g[row] * prob - (here ? g[row] : 0.f);
    }
}

// `(x - mean) / √(variance + ε) · scale + shift`; beside it, in pairs, mean and inverse deviation of each row.
KERNEL layer_norm(
    const float* x, const float* scale, const float* shift, float* y, float* moments, u64 rows, u32 k, u32 lanes, float epsilon
) {
    Place p = place(rows, lanes);
    const float* from = x + p.row * k;
    float mean = 0.f, variance = 0.f;
    for (u32 j = p.lane; j < k; j += lanes) {
        mean += from[j];
    }
    mean = total(mean, lanes) / (float)k;
    for (u32 j = p.lane; j < k; j += lanes) {
        variance += (from[j] - mean) * (from[j] - mean);
    }
    float inverse = 1.f / sqrtf(total(variance, lanes) / (float)k + epsilon);
    for (u32 j = p.lane; p.live && j < k; j += lanes) {
        y[p.row * k + j] = (from[j] - mean) * inverse * scale[j] + shift[j];
    }
    if (p.live && p.lane == 0) {
        moments[2 * p.row] = mean;
        moments[2 * p.row + 1] = inverse;
    }
}

// The gradient in `x`, of rows whose moments are known.
KERNEL layer_norm_slopes(
    const float* x, const float* scale, const float* moments, const float* g, float* d, u64 rows, u32 k, u32 lanes
) {
    Place p = place(rows, lanes);
    float mean = moments[2 * p.row], inverse = moments[2 * p.row + 1], sum = 0.f, along = 0.f;
    for (u32 j = p.lane; j < k; j += lanes) {
        u64 i = p.row * k + j;
        sum += g[i] * scale[j];
        along += g[i] * scale[j] * (x[i] - mean) * inverse;
    }
    sum = total(sum, lanes) / (float)k;
    along = total(along, lanes) / (float)k;
    for (u32 j = p.lane; p.live && j < k; j += lanes) {
        u64 i = p.row * k + j;
        d[i] = inverse * (g[i] * scale[j] - sum - (x[i] - mean) * inverse * along);
    }
}

// Sums over `chunk` rows each of `g (x - mean) inverse` and of `g`: `parts` of them, one after the other, in `2 k` columns.
KERNEL layer_norm_sums(
    const float* x, const float* moments, const float* g, float* sums, u64 rows, u64 parts, u64 chunk, u32 k
) {
    for (u64 i = thread(); i < parts * k; i += threads()) {
        u64 part = i / k, column = i % k;
        float of_scale = 0.f, of_shift = 0.f;
        for (u64 row = part * chunk; row < rows && row < (part + 1) * chunk; row++) {
            float slope = g[row * k + column];
            of_scale += slope * (x[row * k + column] - moments[2 * row]) * moments[2 * row + 1];
            of_shift += slope;
        }
        sums[part * 2 * k + column] = of_scale;
        sums[part * 2 * k + k + column] = of_shift;
    }
}

// Rows of a table of `k` columns.
KERNEL embedding(const float* table, const u32* ids, float* y, u64 n, u32 k) {
    for (u64 i = thread(); i < n * k; i += threads()) {
        y[i] = table[(u64)ids[i / k] * k + i % k];
    }
}

// The gradient of rows of a table that are used: of row `used[s]` the sum of the rows `places[starts[s]..starts[s + 1]]` of `g`.
KERNEL embedding_slopes(
    const float* g, const u32* used, const u32* starts, const u32* places, float* d, u64 segments, u32 k
) {
    for (u64 i = thread(); i < segments * k; i += threads()) {
        u64 s = i / k, column = i % k;
        float sum = 0.f;
        for (u32 p = starts[s]; p < starts[s + 1]; p++) {
            sum += g[(u64)places[p] * k + column];
        }
        d[(u64)used[s] * k + column] = sum;
    }
}

struct AdamStep {
    float beta1, rest1, beta2, rest2, shrink, rate, scale, epsilon;
};

KERNEL adam(float* parameter, float* m, float* v, const float* gradient, u64 n, AdamStep step) {
    for (u64 i = thread(); i < n; i += threads()) {
        float g = gradient[i];
        float next_m = step.beta1 * m[i] + step.rest1 * g;
        float next_v = step.beta2 * v[i] + step.rest2 * g * g;
        m[i] = next_m;
        v[i] = next_v;
        parameter[i] = step.shrink * parameter[i] - step.rate * next_m / (step.scale * sqrtf(next_v) + step.epsilon);
    }
}
