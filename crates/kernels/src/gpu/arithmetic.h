// Arithmetic of the kernels for GPUs: what math.rs, philox.rs and noise.rs do, step by step, with the same constants, so that
// noise has the same bits everywhere. That needs a compiler that fuses no multiply-add by itself.
//
// In the part of C that CUDA C++ and Metal's language share. The file before this one has the types `u32` and `u64`, `FN`, and
// `fused`, `bits_to_float` and `float_to_bits`.

FN float infinity() { return bits_to_float(0x7f800000); }
FN float larger(float a, float b) { return a > b ? a : b; }

// Of math.rs.

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
    int first = whole >> 1;
    return y * power_of_two(first) * power_of_two(whole - first);
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

// Of philox.rs and key.rs.

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
        u64 a = (u64)0xD2511F53u * c0, b = (u64)0xCD9E8D57u * c2;
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

// Of noise.rs.

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

// `(word + 1/2) 2^-32`, rounded once: the number is odd, so that a tie is one of its last bit.
FN float uniform_noise(u32 word) { return (float)((u64)word * 2u + 1u) * 1.1641532182693481e-10f; }

struct LogisticDraw {
    float value, log_density;
};

FN LogisticDraw logistic_with_log_density(u32 word) {
    Tail u = tail(word);
    float far = minus_ln_of_tail(u.t, false), near = minus_ln_of_tail(u.t, true);
    LogisticDraw out;
    out.value = u.upper ? far - near : -(far - near);
    out.log_density = -(far + near);
    return out;
}

struct GumbelDraw {
    float value, exponential;
};

FN GumbelDraw gumbel_with_exponential(u32 word) {
    Tail u = tail(word);
    GumbelDraw out;
    out.exponential = minus_ln_of_tail(u.t, u.upper);
    out.value = -ln_normal(out.exponential);
    return out;
}

FN float gumbel(u32 word) { return gumbel_with_exponential(word).value; }
FN float logistic(u32 word) { return logistic_with_log_density(word).value; }

// What threads of a row exchange.

// The largest of some numbers, and where it is.
struct Top {
    float value;
    u32 at;
};

FN Top first_top(Top a, Top b) { return b.value > a.value || (b.value == a.value && b.at < a.at) ? b : a; }

// The largest of some numbers, and the sum of `e^(x - largest)`; `-inf` and 0 of none.
struct LogSum {
    float top, sum;
};

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

// Places of a row of `k` numbers from place `start` of a stream, by blocks of four words, which a thread makes at once.
#define FOR_BLOCKS for (u64 block = start / 4 + p.lane; block * 4 < start + k; block += lanes)
#define FOR_PLACES for (u32 i = 0; i < 4; i++) if (block * 4 + i >= start && block * 4 + i < start + k)
