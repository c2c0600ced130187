// Noise by itself.

FN double exponential_noise(u32 word) {
    bool upper = word >> 31 == 1u;
    double t = ((double)(int)(upper ? ~word : word) + 0.5) * 2.3283064365386963e-10;
    return upper ? -log1p(-t) : -log(t);
}

enum Noise { UNIFORM, GUMBEL, LOGISTIC, NORMAL };

// Numbers `0..n` of a stream, a block of Philox at a time.
KERNEL fill(float* out, u64 n, u32 noise, Stream stream) {
    for (u64 block = thread(); block * 4 < n; block += threads()) {
        Block b = block_of(stream, block);
        float values[4];
        for (int i = 0; i < 4; i++) {
            u32 w = b.word[i];
            values[i] = noise == UNIFORM ? uniform_noise(w) : noise == GUMBEL ? gumbel(w) : logistic(w);
        }
        if (noise == NORMAL) {
            for (int i = 0; i < 4; i += 2) {
                double radius = sqrt(2. * exponential_noise(b.word[i]));
                double angle = 6.283185307179586 * (((double)b.word[i + 1] + 0.5) * 2.3283064365386963e-10);
                values[i] = (float)(radius * cos(angle));
                values[i + 1] = (float)(radius * sin(angle));
            }
        }
        for (int i = 0; i < 4 && block * 4 + i < n; i++) {
            out[block * 4 + i] = values[i];
        }
    }
}
