// Softmax, and samples by it.

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

// Softmax of rows of `k` times `scale`, of which row `r` sees the `window` places up to place `r % k`; all where `window` is 0.
KERNEL attention_softmax(const float* x, float* y, u64 rows, u32 k, u32 lanes, u32 window, float scale) {
    Place p = place(rows, lanes);
    const float* from = x + p.row * k;
    u32 own = (u32)(p.row % k) + 1, last = window ? own : k, first = window && own > window ? own - window : 0;
    LogSum all = {-infinity(), 0.f};
    for (u32 j = p.lane; j < k; j += lanes) {
        if (j >= first && j < last) all = log_sum_with(all, from[j] * scale);
    }
    all = total_log_sum(all, lanes);
    for (u32 j = p.lane; p.live && j < k; j += lanes) {
        y[p.row * k + j] = j >= first && j < last ? exponential(from[j] * scale - all.top) / all.sum : 0.f;
    }
}

// The gradient of the logarithm `y` of a softmax of logits times `inverse`, of which each of `rows` rows serves `repeats` rows of
// `y`: `Σ_s (g - e^y Σ g) inverse`.
KERNEL log_softmax_slopes(const float* y, const float* g, float* d, u64 rows, u64 repeats, u32 k, u32 lanes, float inverse) {
    Place p = place(rows, lanes);
    for (u32 j = p.lane; p.live && j < k; j += lanes) {
        d[p.row * k + j] = 0.f;
    }
    for (u64 s = 0; s < repeats; s++) {
        u64 start = (s * rows + p.row) * k;
        float sum = 0.f;
        for (u32 j = p.lane; j < k; j += lanes) {
            // A masked category takes no part, whatever its gradient.
            sum += y[start + j] == -infinity() ? 0.f : g[start + j];
        }
        sum = total(sum, lanes);
        for (u32 j = p.lane; p.live && j < k; j += lanes) {
            u64 i = start + j;
            d[p.row * k + j] += y[i] == -infinity() ? 0.f : (g[i] - exponential(y[i]) * sum) * inverse;
        }
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
        FOR_BLOCKS {
            Block words = block_of(stream, block);
            FOR_PLACES {
                u32 j = (u32)(block * 4 + i - start);
                Top here = {(gumbel(words.word[i]) + from[j]) * inverse, j};
                top = first_top(top, here);
            }
        }
        top = total_top(top, lanes);
        for (u32 j = p.lane; p.live && j < k; j += lanes) {
            float at_top = top.value > -infinity() ? 1.f : bits_to_float(0x7fc00000);
            y[start + j] = j == top.at || top.value == -infinity() ? at_top : 0.f;
        }
        return;
    }
    LogSum all = {-infinity(), 0.f};
    FOR_BLOCKS {
        Block words = block_of(stream, block);
        FOR_PLACES {
            u64 at = block * 4 + i;
            float score = (gumbel(words.word[i]) + from[at - start]) * inverse;
            if (p.live) y[at] = score;
            all = log_sum_with(all, score);
        }
    }
    all = total_log_sum(all, lanes);
    FOR_BLOCKS FOR_PLACES {
        u64 at = block * 4 + i;
        if (p.live) y[at] = exponential(y[at] - all.top) / all.sum;
    }
}
