/* cellseg_ring.h: frames of a camera in shared memory, for cellseg-cli live ring:NAME.
 *
 * ABI version 1; docs/ring.md describes the bytes. POSIX, C11 or C++11, nothing to link but -lrt on
 * old systems. One writer, any number of readers; the writer never waits for them.
 *
 *     cellseg_ring ring;
 *     if (cellseg_ring_create(&ring, "scope", 4, 1024 * 1024 * 3)) { perror("scope"); return 1; }
 *     for (;;) {
 *         cellseg_ring_slot *slot = cellseg_ring_begin(&ring);       // marked as being written
 *         camera_read(cellseg_ring_pixels(slot));                    // no copy: the camera fills it
 *         cellseg_ring_set_image(slot, CELLSEG_RING_U8, 1024, 1024, 3);
 *         slot->exposure_start_ns = exposure_start;                  // cellseg_ring_now() at its start
 *         cellseg_ring_publish(&ring);                               // readers see it whole, or not
 *     }
 *     cellseg_ring_close(&ring);
 *
 * A writer that has nothing to publish for a second calls cellseg_ring_heartbeat(&ring).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef CELLSEG_RING_H
#define CELLSEG_RING_H

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifdef __cplusplus
#include <atomic>
typedef std::atomic<uint64_t> cellseg_ring_u64;
#define CELLSEG_RING_ASSERT static_assert
#define CELLSEG_RING_STORE(cell, value, order) \
    std::atomic_store_explicit(cell, (uint64_t)(value), std::memory_order_##order)
#define CELLSEG_RING_LOAD(cell, order) std::atomic_load_explicit(cell, std::memory_order_##order)
#define CELLSEG_RING_FENCE(order) std::atomic_thread_fence(std::memory_order_##order)
#else
#include <stdatomic.h>
typedef _Atomic uint64_t cellseg_ring_u64;
#define CELLSEG_RING_ASSERT _Static_assert
#define CELLSEG_RING_STORE(cell, value, order) \
    atomic_store_explicit(cell, (uint64_t)(value), memory_order_##order)
#define CELLSEG_RING_LOAD(cell, order) atomic_load_explicit(cell, memory_order_##order)
#define CELLSEG_RING_FENCE(order) atomic_thread_fence(memory_order_##order)
#endif

#define CELLSEG_RING_MAGIC UINT64_C(0x474e4952474c4c43) /* the bytes "CLLGRING" */
#define CELLSEG_RING_ABI 1u
#define CELLSEG_RING_NAME_MAX 200

enum { CELLSEG_RING_U8 = 1, CELLSEG_RING_U16 = 2 };        /* dtype */
enum { CELLSEG_RING_OPEN = 1, CELLSEG_RING_CLOSED = 2 };   /* state */

/* First 256 bytes of the memory. Little-endian. */
typedef struct {
    cellseg_ring_u64 magic;        /* written last, so that a ring is whole once it is there */
    uint32_t abi;                  /* CELLSEG_RING_ABI */
    uint32_t header_bytes;         /* 256: where slot 0 begins */
    uint32_t slot_header_bytes;    /* 256: where pixels begin in a slot */
    uint32_t slots;                /* how many, at least 2 */
    uint64_t slot_bytes;           /* from one slot to the next */
    uint64_t pixel_bytes;          /* room for pixels in a slot */
    uint64_t total_bytes;          /* header_bytes + slots * slot_bytes */
    uint64_t session;              /* differs each time a ring is made */
    uint64_t writer_pid;           /* process that writes, as it sees itself */
    cellseg_ring_u64 state;        /* CELLSEG_RING_OPEN or CELLSEG_RING_CLOSED */
    cellseg_ring_u64 heartbeat_ns; /* cellseg_ring_now() when the writer last showed life */
    cellseg_ring_u64 published;    /* frames published so far; the newest is number published - 1 */
    uint8_t reserved[168];
} cellseg_ring_header;

/* First 256 bytes of a slot; frame n lies in slot n % slots. */
typedef struct {
    cellseg_ring_u64 sequence;     /* 2n + 1 while frame n is written, 2n + 2 once it is whole */
    uint64_t frame_id;             /* number of the camera's own; by default n */
    int64_t exposure_start_ns;     /* CLOCK_MONOTONIC */
    int64_t camera_time_ns;        /* the camera's own clock; 0 where it has none */
    uint32_t dtype;                /* CELLSEG_RING_U8 or CELLSEG_RING_U16 */
    uint32_t channels;             /* samples a pixel: 1 grey, 3 RGB, 4 RGBA */
    uint32_t height;               /* pixels */
    uint32_t width;
    int64_t stride_y;              /* bytes from a pixel to the one below, */
    int64_t stride_x;              /* to the one on its right, */
    int64_t stride_c;              /* and from sample to sample */
    double stage_um[3];            /* x right, y down, z; NaN where it is not known */
    double mpp;                    /* microns a pixel; NaN where it is not known */
    char channel[64];              /* such as "DAPI", UTF-8, ends with a zero byte */
    uint8_t reserved[88];
} cellseg_ring_slot;

CELLSEG_RING_ASSERT(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the ring is little-endian");
CELLSEG_RING_ASSERT(sizeof(cellseg_ring_u64) == 8, "an atomic is as wide as its number");
CELLSEG_RING_ASSERT(sizeof(double) == 8, "IEEE 754");
CELLSEG_RING_ASSERT(sizeof(cellseg_ring_header) == 256, "header");
CELLSEG_RING_ASSERT(offsetof(cellseg_ring_header, abi) == 8, "abi");
CELLSEG_RING_ASSERT(offsetof(cellseg_ring_header, slot_bytes) == 24, "slot_bytes");
CELLSEG_RING_ASSERT(offsetof(cellseg_ring_header, state) == 64, "state");
CELLSEG_RING_ASSERT(offsetof(cellseg_ring_header, heartbeat_ns) == 72, "heartbeat_ns");
CELLSEG_RING_ASSERT(offsetof(cellseg_ring_header, published) == 80, "published");
CELLSEG_RING_ASSERT(sizeof(cellseg_ring_slot) == 256, "slot");
CELLSEG_RING_ASSERT(offsetof(cellseg_ring_slot, dtype) == 32, "dtype");
CELLSEG_RING_ASSERT(offsetof(cellseg_ring_slot, stride_y) == 48, "stride_y");
CELLSEG_RING_ASSERT(offsetof(cellseg_ring_slot, stage_um) == 72, "stage_um");
CELLSEG_RING_ASSERT(offsetof(cellseg_ring_slot, channel) == 104, "channel");

/* The writer's handle; its fields are its own affair. */
typedef struct {
    cellseg_ring_header *header;
    uint64_t next;                 /* number of the frame that is written next */
    char name[CELLSEG_RING_NAME_MAX + 2];
} cellseg_ring;

/* Nanoseconds of CLOCK_MONOTONIC: the clock of every time in the ring but camera_time_ns. */
static inline int64_t cellseg_ring_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static inline cellseg_ring_slot *cellseg_ring_slot_at(cellseg_ring_header *header, uint64_t frame) {
    uint64_t offset = header->header_bytes + frame % header->slots * header->slot_bytes;
    return (cellseg_ring_slot *)((char *)header + offset);
}

/* Where a slot's pixels go: header->pixel_bytes bytes. */
static inline void *cellseg_ring_pixels(cellseg_ring_slot *slot) { return slot + 1; }

/* 0 if the name may be taken, else why not: EBUSY, where a ring is open whose writer's heart beat less
 * than 2 s ago; EEXIST, where the memory under the name is no ring. */
static inline int cellseg_ring_refusal(const char *shm_name) {
    int refusal = 0;
    int file = shm_open(shm_name, O_RDONLY, 0);
    struct stat found;
    if (file < 0) return 0;
    if (fstat(file, &found) == 0 && found.st_size > 0) {
        void *at = mmap(NULL, sizeof(cellseg_ring_header), PROT_READ, MAP_SHARED, file, 0);
        if (at != MAP_FAILED) {
            cellseg_ring_header *other = (cellseg_ring_header *)at;
            uint64_t magic = CELLSEG_RING_LOAD(&other->magic, acquire);
            int64_t beat = (int64_t)CELLSEG_RING_LOAD(&other->heartbeat_ns, acquire);
            int is_open = CELLSEG_RING_LOAD(&other->state, acquire) == CELLSEG_RING_OPEN;
            if (magic != CELLSEG_RING_MAGIC && magic != 0)
                refusal = EEXIST;
            else if (is_open && cellseg_ring_now() - beat < INT64_C(2000000000))
                refusal = EBUSY;
            munmap(at, sizeof(cellseg_ring_header));
        }
    }
    close(file);
    return refusal;
}

/* Make the shared memory NAME (no slash) with room for `slots` frames of `pixel_bytes` each.
 *
 * 0, or -1 with errno: EINVAL (name, slots < 2, no pixels), EBUSY (another writer that lives has the
 * name), EEXIST (it is another program's memory), or what shm_open, ftruncate and mmap say. What a
 * dead writer left behind is replaced.
 */
static inline int cellseg_ring_create(cellseg_ring *ring, const char *name, uint32_t slots,
                                      uint64_t pixel_bytes) {
    memset(ring, 0, sizeof *ring);
    if (!*name || strchr(name, '/') || strlen(name) > CELLSEG_RING_NAME_MAX || slots < 2 ||
        pixel_bytes == 0 || pixel_bytes > (UINT64_C(1) << 40)) {
        errno = EINVAL;
        return -1;
    }
    snprintf(ring->name, sizeof ring->name, "/%s", name);
    int refusal = cellseg_ring_refusal(ring->name);
    if (refusal) {
        errno = refusal;
        return -1;
    }
    uint64_t slot_bytes = sizeof(cellseg_ring_slot) + (pixel_bytes + 255) / 256 * 256;
    uint64_t total_bytes = sizeof(cellseg_ring_header) + slots * slot_bytes;
    shm_unlink(ring->name);
    int file = shm_open(ring->name, O_CREAT | O_EXCL | O_RDWR, 0600);
    if (file < 0) return -1;
    void *at = MAP_FAILED;
    if (ftruncate(file, (off_t)total_bytes) == 0)
        at = mmap(NULL, total_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    int why = errno;
    close(file);
    if (at == MAP_FAILED) {
        shm_unlink(ring->name);
        errno = why;
        return -1;
    }
    cellseg_ring_header *header = (cellseg_ring_header *)at;
    header->abi = CELLSEG_RING_ABI;
    header->header_bytes = sizeof(cellseg_ring_header);
    header->slot_header_bytes = sizeof(cellseg_ring_slot);
    header->slots = slots;
    header->slot_bytes = slot_bytes;
    header->pixel_bytes = pixel_bytes;
    header->total_bytes = total_bytes;
    header->session = (uint64_t)cellseg_ring_now() ^ ((uint64_t)getpid() << 40);
    header->writer_pid = (uint64_t)getpid();
    CELLSEG_RING_STORE(&header->state, CELLSEG_RING_OPEN, relaxed);
    CELLSEG_RING_STORE(&header->heartbeat_ns, cellseg_ring_now(), relaxed);
    CELLSEG_RING_STORE(&header->magic, CELLSEG_RING_MAGIC, release);
    ring->header = header;
    return 0;
}

/* Say that the writer lives; at least once a second where nothing is published. */
static inline void cellseg_ring_heartbeat(cellseg_ring *ring) {
    CELLSEG_RING_STORE(&ring->header->heartbeat_ns, cellseg_ring_now(), release);
}

/* Mark the next slot as being written and return it, its fields set to "not known". */
static inline cellseg_ring_slot *cellseg_ring_begin(cellseg_ring *ring) {
    cellseg_ring_slot *slot = cellseg_ring_slot_at(ring->header, ring->next);
    CELLSEG_RING_STORE(&slot->sequence, 2 * ring->next + 1, relaxed);
    CELLSEG_RING_FENCE(release); /* no byte of the frame becomes visible before the mark */
    slot->frame_id = ring->next;
    slot->exposure_start_ns = cellseg_ring_now();
    slot->camera_time_ns = 0;
    slot->stage_um[0] = slot->stage_um[1] = slot->stage_um[2] = (double)NAN;
    slot->mpp = (double)NAN;
    memset(slot->channel, 0, sizeof slot->channel);
    return slot;
}

/* Say what the slot's pixels are: rows without gaps, samples of a pixel side by side. */
static inline void cellseg_ring_set_image(cellseg_ring_slot *slot, uint32_t dtype, uint32_t height,
                                          uint32_t width, uint32_t channels) {
    int64_t sample = dtype == CELLSEG_RING_U16 ? 2 : 1;
    slot->dtype = dtype;
    slot->height = height;
    slot->width = width;
    slot->channels = channels;
    slot->stride_c = sample;
    slot->stride_x = sample * channels;
    slot->stride_y = slot->stride_x * width;
}

/* Name the slot's channel; what goes past 63 bytes is cut off. */
static inline void cellseg_ring_set_channel(cellseg_ring_slot *slot, const char *channel) {
    snprintf(slot->channel, sizeof slot->channel, "%s", channel);
}

/* Let readers have the frame that was begun. */
static inline void cellseg_ring_publish(cellseg_ring *ring) {
    cellseg_ring_slot *slot = cellseg_ring_slot_at(ring->header, ring->next);
    CELLSEG_RING_STORE(&slot->sequence, 2 * ring->next + 2, release);
    ring->next += 1;
    CELLSEG_RING_STORE(&ring->header->published, ring->next, release);
    cellseg_ring_heartbeat(ring);
}

/* Tell readers that no frame will follow, and take the name away. Readers keep what they have. */
static inline void cellseg_ring_close(cellseg_ring *ring) {
    if (!ring->header) return;
    CELLSEG_RING_STORE(&ring->header->state, CELLSEG_RING_CLOSED, release);
    munmap(ring->header, ring->header->total_bytes);
    shm_unlink(ring->name);
    ring->header = NULL;
}

#endif /* CELLSEG_RING_H */
