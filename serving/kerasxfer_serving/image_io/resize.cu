// Pillow's resampling of 8-bit images (Resample.c), for a batch of RGB images of any sizes.
//
// As in Pillow the weights are doubles, normalised to a sum of one and rounded to 22 bits; rows are resampled first and
// rounded to 8 bits, columns after. Compile without contraction to fused multiply-adds: the results are Pillow's.

struct Job {
    const unsigned char *source;  // [height, width, 3], rows `pitch` bytes apart
    unsigned char *rows;          // scratch, [height, to_width, 3]
    unsigned char *target;        // first pixel in the output, whose rows are `target_pitch` bytes apart
    long long pitch, target_pitch;
    int width, height;            // of the source
    int to_width, to_height;      // of the result
    float left, top, right, bottom;  // the part of the source that is used
};

#define PI 3.14159265358979323846
#define BITS 22

__device__ double sinc(double x) {
    if (x == 0.0) return 1.0;
    x *= PI;
    return sin(x) / x;
}

__device__ double weight(int filter, double x) {
    if (filter == BOX) return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
    if (filter == LANCZOS) return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
    x = x < 0.0 ? -x : x;
    if (filter == BILINEAR) return x < 1.0 ? 1.0 - x : 0.0;
    if (filter == HAMMING) {
        if (x == 0.0) return 1.0;
        if (x >= 1.0) return 0.0;
        x *= PI;
        return sin(x) / x * (0.54 + 0.46 * cos(x));
    }
    if (x < 1.0) return ((-0.5 + 2.0) * x - (-0.5 + 3.0)) * x * x + 1;  // bicubic, a = -0.5
    return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0.0;
}

__device__ double reach(int filter) {
    return filter == BOX ? 0.5 : filter == BICUBIC ? 2.0 : filter == LANCZOS ? 3.0 : 1.0;
}

__device__ unsigned char clip(int sum) {
    int value = sum >> BITS;
    return value < 0 ? 0 : value > 255 ? 255 : value;
}

// One output pixel: the weighted sum of samples `step` bytes apart along one axis.
__device__ void resample(const unsigned char *samples, long long step, int size, float first, float last, int to_size,
                         int index, int filter, unsigned char *out) {
    double scale = (double)(last - first) / to_size, stretch = scale < 1.0 ? 1.0 : scale;
    double centre = first + (index + 0.5) * scale, support = reach(filter) * stretch, inverse = 1.0 / stretch;
    int from = (int)(centre - support + 0.5), to = (int)(centre + support + 0.5);
    from = from < 0 ? 0 : from;
    to = to > size ? size : to;
    double total = 0.0;
    for (int x = from; x < to; x++) total += weight(filter, (x - centre + 0.5) * inverse);
    int red = 1 << (BITS - 1), green = red, blue = red;
    for (int x = from; x < to; x++) {
        double w = weight(filter, (x - centre + 0.5) * inverse);
        if (total != 0.0) w /= total;
        int k = (int)((w < 0 ? -0.5 : 0.5) + w * (1 << BITS));
        const unsigned char *sample = samples + x * step;
        red += k * sample[0];
        green += k * sample[1];
        blue += k * sample[2];
    }
    out[0] = clip(red);
    out[1] = clip(green);
    out[2] = clip(blue);
}

extern "C" __global__ void resample_rows(const Job *jobs, int filter) {
    Job job = jobs[blockIdx.z];
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= job.to_width || y >= job.height) return;
    resample(job.source + y * job.pitch, 3, job.width, job.left, job.right, job.to_width, x, filter,
             job.rows + ((long long)y * job.to_width + x) * 3);
}

extern "C" __global__ void resample_columns(const Job *jobs, int filter) {
    Job job = jobs[blockIdx.z];
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= job.to_width || y >= job.to_height) return;
    resample(job.rows + 3 * x, 3ll * job.to_width, job.height, job.top, job.bottom, job.to_height, y, filter,
             job.target + y * job.target_pitch + 3 * x);
}
