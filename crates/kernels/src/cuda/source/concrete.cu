// Samples of Concrete variables and their densities.

// What is made of a score of a bit: the logit of the relaxed bit, the bit, or what it rounds to.
enum Form { LOGIT, SOFT, HARD };

// `(logits + L) inverse`, number `i` of logit `i` modulo `numbers`, in the form that is asked for.
KERNEL bits(const float* logits, float* y, u64 n, u64 numbers, float inverse, u32 form, Stream stream) {
    for (u64 block = thread(); block * 4 < n; block += threads()) {
        Block words = block_of(stream, block);
        for (u32 i = 0; i < 4 && block * 4 + i < n; i++) {
            u64 at = block * 4 + i;
            float score = (logistic(words.word[i]) + logits[at % numbers]) * inverse;
            y[at] = form == LOGIT ? score : form == SOFT ? sigmoid(score) : score > 0.f ? 1.f : 0.f;
        }
    }
}

// The same as logits, and beside each row of `k` numbers `constant` and the sum of the logarithms of the densities of their
// noise.
KERNEL bin_concrete(
    const float* logits, float* v, float* density, u64 rows, u64 numbers, u32 k, u32 lanes, float inverse, float constant,
    Stream stream
) {
    Place p = place(rows, lanes);
    u64 start = p.row * k;
    float sum = 0.f;
    FOR_BLOCKS {
        Block words = block_of(stream, block);
        FOR_PLACES {
            u64 at = block * 4 + i;
            LogisticDraw draw = logistic_with_log_density(words.word[i]);
            sum += draw.log_density;
            if (p.live) v[at] = (draw.value + logits[at % numbers]) * inverse;
        }
    }
    sum = total(sum, lanes);
    if (p.live && p.lane == 0) density[p.row] = sum + constant;
}

// `Σ_s g y (1 - y) inverse` over the uses of each of `numbers` logits; the soft bits `y` are given, or made again of the logits.
KERNEL gumbel_sigmoid_slopes(
    const float* given, const float* g, float* d, u64 numbers, u64 n, float inverse, u32 again, Stream stream
) {
    for (u64 i = thread(); i < numbers; i += threads()) {
        float sum = 0.f;
        for (u64 at = i; at < n; at += numbers) {
            float y = again ? sigmoid((logistic(word_of(stream, at)) + given[i]) * inverse) : given[at];
            sum += g[at] * (y * (1.f - y));
        }
        d[i] = sum * inverse;
    }
}

// `scale Σ_r x_{r numbers + i}`.
KERNEL sum_of_repeats(const float* x, float* out, u64 numbers, u64 n, float scale) {
    for (u64 i = thread(); i < numbers; i += threads()) {
        float sum = 0.f;
        for (u64 at = i; at < n; at += numbers) {
            sum += x[at];
        }
        out[i] = sum * scale;
    }
}

// `log softmax((logits + G) inverse)` of `variables` rows of `k` for each of `rows` examples, of `inputs` rows of logits; where a
// density is asked for, beside each example `constant - Σ_n Σ_k G_k - K ln (Σ_k e^-G_k / K)`.
KERNEL exp_concrete(
    const float* logits, float* y, float* density, u64 rows, u64 inputs, u32 variables, u32 k, u32 lanes, float inverse,
    float constant, u32 with_density, Stream stream
) {
    Place p = place(rows, lanes);
    float of_example = constant;
    for (u32 n = 0; n < variables; n++) {
        u64 row = p.row * variables + n, start = row * k;
        const float* from = logits + row % inputs * k;
        LogSum all = {-infinity(), 0.f};
        float noise = 0.f, exponentials = 0.f;
        FOR_BLOCKS {
            Block words = block_of(stream, block);
            FOR_PLACES {
                u64 at = block * 4 + i;
                GumbelDraw draw = gumbel_with_exponential(words.word[i]);
                float score = (draw.value + from[at - start]) * inverse;
                noise += draw.value;
                exponentials += draw.exponential;
                if (p.live) y[at] = score;
                all = log_sum_with(all, score);
            }
        }
        all = total_log_sum(all, lanes);
        // A row without a category left is NaN.
        float rest = ln(all.sum);
        FOR_BLOCKS FOR_PLACES {
            u64 at = block * 4 + i;
            if (p.live) y[at] = y[at] - all.top - rest;
        }
        if (with_density) {
            of_example -= total(noise, lanes) + (float)k * ln(total(exponentials, lanes) / (float)k);
        }
    }
    if (with_density && p.live && p.lane == 0) density[p.row] = of_example;
}

// `constant + Σ_n d_n - 2 ln(1 + e^{d_n})` with `d = logits - temperature v`; rows are counted modulo those of each.
KERNEL bin_concrete_log_density(
    const float* l, const float* v, float* y, u64 rows, u64 of_l, u64 of_v, u32 k, u32 lanes, float temperature, float constant
) {
    Place p = place(rows, lanes);
    const float *logits = l + p.row % of_l * k, *values = v + p.row % of_v * k;
    float sum = 0.f;
    for (u32 j = p.lane; j < k; j += lanes) {
        float size = absolute(logits[j] - temperature * values[j]);
        sum -= size + 2.f * ln_1p(exponential(-size));
    }
    sum = total(sum, lanes);
    if (p.live && p.lane == 0) y[p.row] = sum + constant;
}

// Its gradient in `v` at each use: `g temperature tanh(d / 2)`.
KERNEL bin_concrete_density_slopes(
    const float* l, const float* v, const float* g, float* out, u64 rows, u64 of_l, u64 of_v, u32 k, float temperature
) {
    for (u64 i = thread(); i < rows * k; i += threads()) {
        u64 row = i / k, j = i % k;
        float d = l[row % of_l * k + j] - temperature * v[row % of_v * k + j];
        float e = exponential(-absolute(d)), size = (1.f - e) / (1.f + e) * g[row] * temperature;
        out[i] = d >= 0.f ? size : -size;
    }
}

// The largest of `t = logits - temperature y` of a row, and the sum of `e^(t - largest)`.
FN LogSum log_sum_of_difference(const float* logits, const float* y, float temperature, u32 k, u32 lanes, u32 lane) {
    LogSum all = {-infinity(), 0.f};
    for (u32 j = lane; j < k; j += lanes) {
        all = log_sum_with(all, logits[j] - temperature * y[j]);
    }
    return total_log_sum(all, lanes);
}

// `constant + Σ_n Σ_k t_k - K ln (Σ_k e^t_k / K)` over the `variables` rows of each of `rows` examples.
KERNEL exp_concrete_log_density(
    const float* l, const float* y, float* out, u64 rows, u64 of_l, u64 of_y, u32 variables, u32 k, u32 lanes,
    float temperature, float constant
) {
    Place p = place(rows, lanes);
    float of_example = constant;
    for (u32 n = 0; n < variables; n++) {
        u64 row = p.row * variables + n;
        const float *logits = l + row % of_l * k, *values = y + row % of_y * k;
        LogSum all = log_sum_of_difference(logits, values, temperature, k, lanes, p.lane);
        float centred = 0.f;
        for (u32 j = p.lane; j < k; j += lanes) {
            centred += logits[j] - temperature * values[j] - all.top;
        }
        of_example += total(centred, lanes) - (float)k * ln(all.sum / (float)k);
    }
    if (p.live && p.lane == 0) out[p.row] = of_example;
}

// Its gradient in `y` at each use, of `rows` variables: `g temperature (K softmax(t) - 1)`.
KERNEL exp_concrete_density_slopes(
    const float* l, const float* y, const float* g, float* d, u64 rows, u64 of_l, u64 of_y, u32 variables, u32 k, u32 lanes,
    float temperature
) {
    Place p = place(rows, lanes);
    const float *logits = l + p.row % of_l * k, *values = y + p.row % of_y * k;
    LogSum all = log_sum_of_difference(logits, values, temperature, k, lanes, p.lane);
    float scale = g[p.row / variables] * temperature;
    for (u32 j = p.lane; p.live && j < k; j += lanes) {
        float prob = exponential(logits[j] - temperature * values[j] - all.top) / all.sum;
        d[p.row * k + j] = ((float)k * prob - 1.f) * scale;
    }
}
