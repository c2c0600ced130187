// Log-likelihoods and divergences, a number a row.

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
