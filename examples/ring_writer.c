/* A camera in C that feeds cellseg through shared memory: made frames, or a raw RGB file.
 *
 *     gcc -O2 -std=c11 -I $(python -m cellseg.live.ring) examples/ring_writer.c -o ring_writer -lrt -lm
 *     ./ring_writer scope 512 512 10 300 [frame.rgb]       name width height rate frames
 *     cellseg-cli live ring:scope
 */
#define _POSIX_C_SOURCE 200809L
#include "cellseg_ring.h"

#include <signal.h>
#include <stdlib.h>

static volatile sig_atomic_t stopped = 0;

static void stop(int signal_number) {
    (void)signal_number;
    stopped = 1;
}

/* Bright discs on a dim ground that move one pixel to the right each frame. */
static void paint(uint8_t *rgb, uint32_t width, uint32_t height, uint64_t frame) {
    for (uint32_t y = 0; y < height; y++) {
        for (uint32_t x = 0; x < width; x++) {
            int64_t dx = (int64_t)((x + width - frame % width) % 64) - 32;
            int64_t dy = (int64_t)(y % 64) - 32;
            uint8_t value = dx * dx + dy * dy < 100 ? 220 : 30;
            memset(rgb + 3 * ((uint64_t)y * width + x), value, 3);
        }
    }
}

/* Read `bytes` bytes of raw RGB, or exit. */
static uint8_t *read_raw(const char *path, uint64_t bytes) {
    uint8_t *raw = malloc(bytes);
    FILE *file = fopen(path, "rb");
    if (!raw || !file || fread(raw, 1, bytes, file) != bytes) {
        fprintf(stderr, "error: %s must hold %llu bytes of RGB\n", path, (unsigned long long)bytes);
        exit(1);
    }
    fclose(file);
    return raw;
}

/* Sleep for a time; the heart beats meanwhile, however slow the camera is. */
static void wait_ns(cellseg_ring *ring, int64_t left_ns) {
    while (left_ns > 0 && !stopped) {
        int64_t step_ns = left_ns < 500000000 ? left_ns : 500000000;
        struct timespec step = {0, (long)step_ns};
        nanosleep(&step, NULL);
        cellseg_ring_heartbeat(ring);
        left_ns -= step_ns;
    }
}

int main(int count, char **words) {
    if (count < 6) {
        fprintf(stderr, "usage: %s NAME WIDTH HEIGHT RATE FRAMES [FILE.rgb]\n", words[0]);
        return 2;
    }
    uint32_t width = (uint32_t)atol(words[2]), height = (uint32_t)atol(words[3]);
    double rate = atof(words[4]);
    uint64_t frames = strtoull(words[5], NULL, 10), bytes = (uint64_t)width * height * 3;
    if (rate <= 0) {
        fprintf(stderr, "error: RATE is frames a second. Received: %s\n", words[4]);
        return 2;
    }
    uint8_t *raw = count > 6 ? read_raw(words[6], bytes) : NULL;
    cellseg_ring ring;
    if (cellseg_ring_create(&ring, words[1], 4, bytes)) {
        perror(words[1]);
        return 1;
    }
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    int64_t period_ns = (int64_t)(1e9 / rate), due_ns = cellseg_ring_now();
    for (uint64_t frame = 0; frame < frames && !stopped; frame++, due_ns += period_ns) {
        wait_ns(&ring, due_ns - cellseg_ring_now());
        cellseg_ring_slot *slot = cellseg_ring_begin(&ring);
        uint8_t *pixels = cellseg_ring_pixels(slot);
        if (raw) memcpy(pixels, raw, bytes);
        else paint(pixels, width, height, frame);
        cellseg_ring_set_image(slot, CELLSEG_RING_U8, height, width, 3);
        cellseg_ring_set_channel(slot, "bright-field");
        slot->stage_um[0] = 0.5 * (double)frame;
        slot->stage_um[1] = slot->stage_um[2] = 0.0;
        slot->mpp = 0.5;
        cellseg_ring_publish(&ring);
    }
    printf("%llu frames\n", (unsigned long long)ring.next);
    wait_ns(&ring, 500000000); /* time for readers to take the last frame */
    cellseg_ring_close(&ring);
    free(raw);
    return 0;
}
