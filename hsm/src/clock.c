/* clock.c - the monotonic clock. */
#include <hsm/clock.h>

int64_t
hsm_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * HSM_NS_PER_S + now.tv_nsec;
}

int64_t
hsm_clock_ms(void)
{
    return hsm_clock_ns() / HSM_NS_PER_MS;
}

time_t
hsm_clock_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec;
}

struct timespec
hsm_clock_timespec(int64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / HSM_NS_PER_S),
                             .tv_nsec = (long)(ns % HSM_NS_PER_S)};
}
