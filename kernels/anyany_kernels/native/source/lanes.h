/* A vector of floats as wide as the processor has them, and the few things that are done with it.

   AVX-512, AVX2 with FMA, NEON, or one float at a time. Nothing else in this library names an instruction.
   A group is 32 weights as int16; 32 is also the group of int4 and of the activations that meet integers. */
#ifndef ANYANY_LANES_H
#define ANYANY_LANES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define GROUP 32

INLINE float from_bf16(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float out;
    memcpy(&out, &wide, 4);
    return out;
}

INLINE uint16_t to_bf16(float x) { /* to the nearest, ties to even; what is no number stays none */
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if (x != x) return (uint16_t)(bits >> 16 | 64);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define MULTIPLY_ADD(a, b, c) fmaf(a, b, c)
#else
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#endif

#if defined(ANYANY_ONE_LANE)
/* The fallback below, chosen by whoever tests it. */
#elif defined(__AVX512F__) && defined(__AVX512BW__)
#define ANYANY_AVX512
#elif defined(__AVX2__) && defined(__FMA__)
#define ANYANY_AVX2
#elif defined(__ARM_NEON) && defined(__aarch64__)
#define ANYANY_NEON
#endif

#if defined(ANYANY_AVX512)
#include <immintrin.h>
#define ISA "AVX-512"
#define LANES 16
typedef __m512 lanes;
typedef __m512i group;
INLINE lanes lanes_all(float x) { return _mm512_set1_ps(x); }
INLINE lanes lanes_load(const float *at) { return _mm512_loadu_ps(at); }
INLINE void lanes_store(float *at, lanes x) { _mm512_storeu_ps(at, x); }
INLINE lanes lanes_add(lanes a, lanes b) { return _mm512_add_ps(a, b); }
INLINE lanes lanes_multiply(lanes a, lanes b) { return _mm512_mul_ps(a, b); }
INLINE lanes lanes_divide(lanes a, lanes b) { return _mm512_div_ps(a, b); }
INLINE lanes lanes_fma(lanes a, lanes b, lanes c) { return _mm512_fmadd_ps(a, b, c); }
INLINE lanes lanes_within(lanes x, float low, float high) { /* the order of operands keeps what is no number */
    return _mm512_min_ps(lanes_all(high), _mm512_max_ps(lanes_all(low), x));
}
INLINE lanes lanes_round(lanes x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE lanes lanes_two_to(lanes n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
INLINE float lanes_sum(lanes x) { return _mm512_reduce_add_ps(x); }
INLINE lanes lanes_load_bf16(const uint16_t *at) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)at)), 16));
}
INLINE group group_int8(const int8_t *at) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)at)); }
INLINE group group_int4(const uint8_t *at) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)at), mask = _mm_set1_epi8(15);
    __m256i both = _mm256_set_m128i(_mm_and_si128(_mm_srli_epi16(bytes, 4), mask), _mm_and_si128(bytes, mask));
    return _mm512_sub_epi16(_mm512_cvtepu8_epi16(both), _mm512_set1_epi16(8));
}
INLINE lanes group_dot(group w, const int16_t *x) {
    return _mm512_cvtepi32_ps(_mm512_madd_epi16(w, _mm512_loadu_si512(x)));
}

#elif defined(ANYANY_AVX2)
#include <immintrin.h>
#define ISA "AVX2"
#define LANES 8
typedef __m256 lanes;
typedef struct { __m256i low, high; } group;
INLINE lanes lanes_all(float x) { return _mm256_set1_ps(x); }
INLINE lanes lanes_load(const float *at) { return _mm256_loadu_ps(at); }
INLINE void lanes_store(float *at, lanes x) { _mm256_storeu_ps(at, x); }
INLINE lanes lanes_add(lanes a, lanes b) { return _mm256_add_ps(a, b); }
INLINE lanes lanes_multiply(lanes a, lanes b) { return _mm256_mul_ps(a, b); }
INLINE lanes lanes_divide(lanes a, lanes b) { return _mm256_div_ps(a, b); }
INLINE lanes lanes_fma(lanes a, lanes b, lanes c) { return _mm256_fmadd_ps(a, b, c); }
INLINE lanes lanes_within(lanes x, float low, float high) { /* the order of operands keeps what is no number */
    return _mm256_min_ps(lanes_all(high), _mm256_max_ps(lanes_all(low), x));
}
INLINE lanes lanes_round(lanes x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE lanes lanes_two_to(lanes n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
INLINE float lanes_sum(lanes x) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
INLINE lanes lanes_load_bf16(const uint16_t *at) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)at)), 16));
}
INLINE group group_int8(const int8_t *at) {
    const __m128i *halves = (const __m128i *)at;
    return (group){_mm256_cvtepi8_epi16(_mm_loadu_si128(halves)), _mm256_cvtepi8_epi16(_mm_loadu_si128(halves + 1))};
}
INLINE group group_int4(const uint8_t *at) {
    __m256i bytes = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)at)), eight = _mm256_set1_epi16(8);
    __m256i low = _mm256_and_si256(bytes, _mm256_set1_epi16(15));
    return (group){_mm256_sub_epi16(low, eight), _mm256_sub_epi16(_mm256_srli_epi16(bytes, 4), eight)};
}
INLINE lanes group_dot(group w, const int16_t *x) {
    const __m256i *halves = (const __m256i *)x;
    __m256i low = _mm256_madd_epi16(w.low, _mm256_loadu_si256(halves));
    return _mm256_cvtepi32_ps(_mm256_add_epi32(low, _mm256_madd_epi16(w.high, _mm256_loadu_si256(halves + 1))));
}

#elif defined(ANYANY_NEON)
#include <arm_neon.h>
#define ISA "NEON"
#define LANES 4
typedef float32x4_t lanes;
typedef int16x8x4_t group;
INLINE lanes lanes_all(float x) { return vdupq_n_f32(x); }
INLINE lanes lanes_load(const float *at) { return vld1q_f32(at); }
INLINE void lanes_store(float *at, lanes x) { vst1q_f32(at, x); }
INLINE lanes lanes_add(lanes a, lanes b) { return vaddq_f32(a, b); }
INLINE lanes lanes_multiply(lanes a, lanes b) { return vmulq_f32(a, b); }
INLINE lanes lanes_divide(lanes a, lanes b) { return vdivq_f32(a, b); }
INLINE lanes lanes_fma(lanes a, lanes b, lanes c) { return vfmaq_f32(c, a, b); }
INLINE lanes lanes_within(lanes x, float low, float high) {
    return vminq_f32(lanes_all(high), vmaxq_f32(lanes_all(low), x));
}
INLINE lanes lanes_round(lanes x) { return vrndnq_f32(x); }
INLINE lanes lanes_two_to(lanes n) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23));
}
INLINE float lanes_sum(lanes x) { return vaddvq_f32(x); }
INLINE lanes lanes_load_bf16(const uint16_t *at) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(at), 16)); }
INLINE group group_int8(const int8_t *at) {
    int8x16_t a = vld1q_s8(at), b = vld1q_s8(at + 16);
    return (group){{vmovl_s8(vget_low_s8(a)), vmovl_high_s8(a), vmovl_s8(vget_low_s8(b)), vmovl_high_s8(b)}};
}
INLINE group group_int4(const uint8_t *at) {
    uint8x16_t bytes = vld1q_u8(at);
    int8x16_t eight = vdupq_n_s8(8);
    int8x16_t low = vsubq_s8(vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15))), eight);
    int8x16_t high = vsubq_s8(vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4)), eight);
    return (group){{vmovl_s8(vget_low_s8(low)), vmovl_high_s8(low), vmovl_s8(vget_low_s8(high)), vmovl_high_s8(high)}};
}
INLINE lanes group_dot(group w, const int16_t *x) {
    int32x4_t sum = vdupq_n_s32(0);
    for (int i = 0; i < 4; i++) {
        int16x8_t part = vld1q_s16(x + 8 * i);
        sum = vmlal_s16(sum, vget_low_s16(w.val[i]), vget_low_s16(part));
        sum = vmlal_high_s16(sum, w.val[i], part);
    }
    return vcvtq_f32_s32(sum);
}

#else
#define ISA "plain C"
#define LANES 1
typedef float lanes;
typedef struct { int16_t at[GROUP]; } group;
INLINE lanes lanes_all(float x) { return x; }
INLINE lanes lanes_load(const float *at) { return *at; }
INLINE void lanes_store(float *at, lanes x) { *at = x; }
INLINE lanes lanes_add(lanes a, lanes b) { return a + b; }
INLINE lanes lanes_multiply(lanes a, lanes b) { return a * b; }
INLINE lanes lanes_divide(lanes a, lanes b) { return a / b; }
INLINE lanes lanes_fma(lanes a, lanes b, lanes c) { return MULTIPLY_ADD(a, b, c); }
INLINE float lanes_sum(lanes x) { return x; }
INLINE lanes lanes_load_bf16(const uint16_t *at) { return from_bf16(*at); }
INLINE group group_int8(const int8_t *at) {
    group out;
    for (int i = 0; i < GROUP; i++) out.at[i] = at[i];
    return out;
}
INLINE group group_int4(const uint8_t *at) {
    group out;
    for (int i = 0; i < GROUP / 2; i++) {
        out.at[i] = (int16_t)((at[i] & 15) - 8);
        out.at[i + GROUP / 2] = (int16_t)((at[i] >> 4) - 8);
    }
    return out;
}
INLINE lanes group_dot(group w, const int16_t *x) {
    int32_t sum = 0;
    for (int i = 0; i < GROUP; i++) sum += (int32_t)w.at[i] * x[i];
    return (float)sum;
}
#endif

#if LANES == 1
INLINE lanes lanes_exp(lanes x) { return expf(x); }
#else
/* e to the x: the remainder after powers of two by a polynomial (Cephes), within two units of the last place. */
INLINE lanes lanes_exp(lanes x) {
    x = lanes_within(x, -87.3f, 88.3f);
    lanes n = lanes_round(lanes_multiply(x, lanes_all(1.44269504088896341f)));
    lanes r = lanes_fma(n, lanes_all(-0.693359375f), x);
    r = lanes_fma(n, lanes_all(2.12194440e-4f), r);
    lanes p = lanes_all(1.9875691500e-4f);
    p = lanes_fma(p, r, lanes_all(1.3981999507e-3f));
    p = lanes_fma(p, r, lanes_all(8.3334519073e-3f));
    p = lanes_fma(p, r, lanes_all(4.1665795894e-2f));
    p = lanes_fma(p, r, lanes_all(1.6666665459e-1f));
    p = lanes_fma(p, r, lanes_all(5.0000001201e-1f));
    p = lanes_fma(lanes_multiply(p, r), r, lanes_add(r, lanes_all(1.0f)));
    return lanes_multiply(p, lanes_two_to(n));
}
#endif

#endif
