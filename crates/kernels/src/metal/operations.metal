
struct Fill {
    u64 n;
    u32 noise, unused;
    Stream stream;
};

enum Noise { UNIFORM, GUMBEL, LOGISTIC };

// Numbers `0..n` of a stream, a block of Philox a thread.
kernel void fill(device float* out [[buffer(0)]], constant Fill& a [[buffer(1)]], u32 at [[thread_position_in_grid]]) {
    Block b = block_of(a.stream, at);
    for (u32 i = 0; i < 4 && (u64)at * 4 + i < a.n; i++) {
        u32 w = b.word[i];
        out[(u64)at * 4 + i] = a.noise == UNIFORM ? uniform_noise(w) : a.noise == GUMBEL ? gumbel(w) : logistic(w);
    }
}

struct Rows {
    u64 rows, others;
    u32 k, lanes;
    float inverse;
    u32 hard;
    Stream stream;
};

// The row of a thread and its number in it; rows past the end repeat the last one, and are not written.
struct Place {
    u64 row;
    u32 lane;
    bool live;
};

FN Place place(u64 rows, u32 lanes, u32 at) {
    Place out;
    u64 row = at / lanes;
    out.live = row < rows;
    out.row = out.live ? row : rows - 1;
    out.lane = at % lanes;
    return out;
}

// `softmax((logits + G) inverse)`, or the one-hot vector of its largest entry; row `r` of logits `r` modulo `others`. A row
// without a category left is NaN.
kernel void gumbel_softmax(
    device const float* logits [[buffer(0)]], device float* y [[buffer(1)]], constant Rows& a [[buffer(2)]],
    u32 at [[thread_position_in_grid]]
) {
    u32 k = a.k, lanes = a.lanes;
    Place p = place(a.rows, lanes, at);
    u64 start = p.row * k, from = p.row % a.others * k;
    Top top = {-infinity(), 0xffffffffu};
    LogSum all = {-infinity(), 0.f};
    FOR_BLOCKS {
        Block words = block_of(a.stream, block);
        FOR_PLACES {
            u64 j = block * 4 + i - start;
            float score = (gumbel(words.word[i]) + logits[from + j]) * a.inverse;
            Top here = {score, (u32)j};
            top = first_top(top, here);
            all = log_sum_with(all, score);
            if (p.live && !a.hard) y[start + j] = score;
        }
    }
    for (u32 off = lanes / 2; off > 0; off /= 2) {
        Top other = {simd_shuffle_xor(top.value, off), simd_shuffle_xor(top.at, off)};
        LogSum rest = {simd_shuffle_xor(all.top, off), simd_shuffle_xor(all.sum, off)};
        top = first_top(top, other);
        all = log_sum_of_both(all, rest);
    }
    bool none = all.top == -infinity();
    FOR_BLOCKS FOR_PLACES {
        u64 here = block * 4 + i;
        float soft = p.live && !a.hard ? exponential(y[here] - all.top) / all.sum : here - start == top.at ? 1.f : 0.f;
        if (p.live) y[here] = none ? bits_to_float(0x7fc00000) : soft;
    }
}

// The gradient of a softmax `y` of logits times `inverse`, of which each of `rows` rows serves `others` rows of `y`:
// `Σ_s y (g - <g, y>) inverse`.
kernel void softmax_slopes(
    device const float* y [[buffer(0)]], device const float* g [[buffer(1)]], device float* d [[buffer(2)]],
    constant Rows& a [[buffer(3)]], u32 at [[thread_position_in_grid]]
) {
    Place p = place(a.rows, a.lanes, at);
    u64 out = p.row * a.k;
    for (u32 j = p.lane; p.live && j < a.k; j += a.lanes) {
        d[out + j] = 0.f;
    }
    for (u64 s = 0; s < a.others; s++) {
        u64 start = (s * a.rows + p.row) * a.k;
        float dot = 0.f;
        for (u32 j = p.lane; j < a.k; j += a.lanes) {
            dot += y[start + j] * g[start + j];
        }
        for (u32 off = a.lanes / 2; off > 0; off /= 2) {
            dot += simd_shuffle_xor(dot, off);
        }
        for (u32 j = p.lane; p.live && j < a.k; j += a.lanes) {
            d[out + j] += y[start + j] * (g[start + j] - dot) * a.inverse;
        }
    }
}
