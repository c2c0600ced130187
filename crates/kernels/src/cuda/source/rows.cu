// Rows that `lanes` threads share, side by side: a power of two up to 32, or a whole block.

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
FN double from_lane(double v, u32 off) { return __shfl_xor_sync(0xffffffffu, v, off); }

FN Top from_lane(Top v, u32 off) {
    Top out;
    out.value = __shfl_xor_sync(0xffffffffu, v.value, off);
    out.at = __shfl_xor_sync(0xffffffffu, v.at, off);
    return out;
}

FN LogSum from_lane(LogSum v, u32 off) {
    LogSum out;
    out.top = __shfl_xor_sync(0xffffffffu, v.top, off);
    out.sum = __shfl_xor_sync(0xffffffffu, v.sum, off);
    return out;
}

FN float sum_of_both(float a, float b) { return a + b; }
FN double sum_of_both(double a, double b) { return a + b; }

REDUCE(total, float, sum_of_both)
REDUCE(total_double, double, sum_of_both)
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
