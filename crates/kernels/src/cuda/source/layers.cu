// Layer normalisation and embedding.

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
