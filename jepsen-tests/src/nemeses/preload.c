/* Faults that only the inside of a process can suffer: loaded into a node with LD_PRELOAD, steered from
 * outside through a page of shared memory (see preload.rs, which has the same layout).
 *
 *   wall clock   CLOCK_REALTIME jumps and drifts; monotonic time is left alone.
 *   network      connections to a peer go to the proxy that stands for this pair of nodes.
 *   disk         syncs are slow or fail, files cannot grow; and for the power cut every change that is
 *                not synced yet is noted beside what it destroyed, so that it can be undone (see power.rs).
 *
 * Only files below FAULT_LIBRARY_DATA are touched. With no fault on, each call costs one load.
 * Left out: mmap writes and O_DIRECT, which the store does not use.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { ROUTES_MAX = 64 };

/* The shared page: 64-bit words, in the machine's order. */
struct control {
    _Atomic int64_t wall_offset_ns;
    _Atomic int64_t wall_drift_ppm;
    _Atomic int64_t wall_drift_since_ns; /* on CLOCK_MONOTONIC */
    _Atomic int64_t sync_errno;          /* every sync fails so */
    _Atomic int64_t sync_delay_us;       /* every sync takes this much longer */
    _Atomic int64_t grow_errno;          /* a file that would grow fails so */
    _Atomic int64_t journal;             /* note what is not synced */
    _Atomic int64_t hits;                /* calls that a disk fault touched */
    _Atomic int64_t routes;              /* how many follow */
    struct {
        _Atomic int64_t port;            /* where a peer listens */
        _Atomic int64_t proxy;           /* where this node finds it */
    } route[ROUTES_MAX];
};

static struct control no_faults;
static struct control *control = &no_faults;
static char data_dir[PATH_MAX];
static size_t data_dir_len;
static char journal_dir[PATH_MAX];
static int journal_fd = -1;
static pthread_mutex_t journal_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t journal_seq;

#define REAL(name) static __typeof__(&name) real_##name
REAL(open); REAL(open64); REAL(write); REAL(pwrite64); REAL(writev); REAL(ftruncate64);
REAL(fsync); REAL(fdatasync); REAL(rename); REAL(unlink); REAL(connect); REAL(clock_gettime);

/* Before any thread of the program, so that no call below ever finds a null pointer. */
__attribute__((constructor(101))) static void begin(void) {
#define FIND(name) real_##name = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
    FIND(open); FIND(open64); FIND(write); FIND(pwrite64); FIND(writev); FIND(ftruncate64);
    FIND(fsync); FIND(fdatasync); FIND(rename); FIND(unlink); FIND(connect); FIND(clock_gettime);
    const char *page = getenv("FAULT_LIBRARY_CONTROL");
    const char *dir = getenv("FAULT_LIBRARY_DATA");
    const char *journal = getenv("FAULT_LIBRARY_JOURNAL");
    if (!page || !dir || !journal)
        return;
    data_dir_len = (size_t)snprintf(data_dir, sizeof data_dir, "%s", dir);
    snprintf(journal_dir, sizeof journal_dir, "%s", journal);
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/journal", journal);
    journal_fd = real_open64(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int fd = real_open64(page, O_RDWR | O_CLOEXEC);
    void *memory = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (journal_fd < 0 || memory == MAP_FAILED) {
        fprintf(stderr, "fault library: cannot use %s and %s: %s\n", page, path, strerror(errno));
        _exit(97); /* a node without its faults would pass every test */
    }
    close(fd);
    control = memory;
}

static int64_t get(_Atomic int64_t *word) { return atomic_load_explicit(word, memory_order_acquire); }

/* Whether any disk fault is on. */
static int disk_faults(void) {
    return get(&control->sync_errno) | get(&control->sync_delay_us) | get(&control->grow_errno) | get(&control->journal);
}

static int is_data(const char *path) {
    return data_dir_len && !strncmp(path, data_dir, data_dir_len) && path[data_dir_len] == '/';
}

/* The path of an open file below the data directory; 0 when it is none. */
static int data_path(int fd, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, PATH_MAX - 1);
    if (len < 0)
        return 0;
    path[len] = 0;
    return is_data(path) || (data_dir_len && !strcmp(path, data_dir));
}

static void hit(void) { atomic_fetch_add(&control->hits, 1); }

/* ---- the journal of what is not synced --------------------------------------------------------- */

enum kind { CREATE = 1, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, SYNC_DIR };

/* A record: this head, then `path`, `path2`, and the `old` bytes that were there before. */
struct head {
    uint32_t magic, kind;
    uint64_t seq, inode, offset, len, old_size;
    uint32_t path_len, path2_len, old_len, saved; /* `saved`: a link to the file that was replaced or removed */
};

static void fatal(const char *what) {
    dprintf(2, "fault library: %s: %s\n", what, strerror(errno));
    _exit(97);
}

/* One write, so that a kill leaves whole records and at most one torn one at the end. Holds the lock. */
static void note(struct head head, const char *path, const char *path2, const void *old) {
    head.magic = 0x484a524e;
    head.path_len = path ? (uint32_t)strlen(path) : 0;
    head.path2_len = path2 ? (uint32_t)strlen(path2) : 0;
    struct iovec parts[4] = {
        {&head, sizeof head}, {(void *)path, head.path_len}, {(void *)path2, head.path2_len}, {(void *)old, head.old_len}};
    ssize_t len = (ssize_t)(sizeof head + head.path_len + head.path2_len + head.old_len);
    if (real_writev(journal_fd, parts, 4) != len)
        fatal("noting a change");
    hit();
}

/* Notes a write or truncation that is about to happen, with the bytes it destroys. Holds the lock. */
static void note_change(int fd, enum kind kind, uint64_t offset, uint64_t len) {
    struct stat stat;
    if (fstat(fd, &stat) || !S_ISREG(stat.st_mode))
        return;
    uint64_t size = (uint64_t)stat.st_size, end = kind == TRUNCATE ? size : offset + len;
    uint64_t old_len = offset < size ? (end < size ? end : size) - offset : 0;
    char *old = old_len ? malloc(old_len) : NULL;
    /* The descriptor may be write-only. */
    if (old_len) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        int reader = real_open64(path, O_RDONLY | O_CLOEXEC);
        if (!old || reader < 0 || pread(reader, old, old_len, (off_t)offset) != (ssize_t)old_len)
            fatal("reading what a change destroys");
        close(reader);
    }
    struct head head = {.kind = kind, .seq = ++journal_seq, .inode = stat.st_ino, .offset = offset,
                        .len = len, .old_size = size, .old_len = (uint32_t)old_len};
    note(head, NULL, NULL, old);
    free(old);
}

/* Keeps a file that is about to lose its name. Holds the lock. */
static uint32_t keep(const char *path) {
    struct stat stat;
    if (lstat(path, &stat) || !S_ISREG(stat.st_mode))
        return 0;
    static uint32_t kept;
    char to[PATH_MAX + 32];
    do
        snprintf(to, sizeof to, "%s/kept-%u", journal_dir, ++kept);
    while (link(path, to) && errno == EEXIST);
    return kept;
}

static int journalling(void) { return get(&control->journal) != 0; }

/* ---- files -------------------------------------------------------------------------------------- */

static int open_noted(__typeof__(&open) real, const char *path, int flags, mode_t mode) {
    if (!journalling() || !(flags & (O_CREAT | O_TRUNC)) || !is_data(path))
        return real(path, flags, mode);
    pthread_mutex_lock(&journal_lock);
    struct stat stat_before;
    int existed = !stat(path, &stat_before);
    if (existed && (flags & O_TRUNC)) {
        int fd = real_open64(path, O_RDWR | O_CLOEXEC);
        if (fd >= 0) {
            note_change(fd, TRUNCATE, 0, 0);
            close(fd);
        }
    }
    if (!existed && (flags & O_CREAT))
        note((struct head){.kind = CREATE, .seq = ++journal_seq}, path, NULL, NULL);
    int fd = real(path, flags, mode);
    int failed = errno;
    pthread_mutex_unlock(&journal_lock);
    errno = failed;
    return fd;
}

#define OPEN(name)                                                                                              \
    int name(const char *path, int flags, ...) {                                                                \
        mode_t mode = 0;                                                                                        \
        if (flags & (O_CREAT | O_TMPFILE)) {                                                                    \
            va_list rest;                                                                                       \
            va_start(rest, flags);                                                                              \
            mode = va_arg(rest, mode_t);                                                                        \
            va_end(rest);                                                                                       \
        }                                                                                                       \
        return open_noted((__typeof__(&open))real_##name, path, flags, mode);                                   \
    }
OPEN(open)
OPEN(open64)

/* Before `len` bytes go to `offset` (or, at -1, to wherever the file stands). True: it may not, see errno;
 * else `*locked` says that the change is noted and the lock must be given back. */
static int refuse_write(int fd, int64_t offset, uint64_t len, int *locked) {
    char path[PATH_MAX];
    *locked = 0;
    if (!(get(&control->grow_errno) || journalling()) || !data_path(fd, path))
        return 0;
    pthread_mutex_lock(&journal_lock);
    struct stat stat;
    if (fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode)) {
        if (offset < 0)
            offset = fcntl(fd, F_GETFL) & O_APPEND ? stat.st_size : lseek(fd, 0, SEEK_CUR);
        if (get(&control->grow_errno) && offset + (int64_t)len > stat.st_size) {
            pthread_mutex_unlock(&journal_lock);
            hit();
            errno = (int)get(&control->grow_errno);
            return 1;
        }
        if (journalling())
            note_change(fd, WRITE, (uint64_t)offset, len);
    }
    *locked = 1;
    return 0;
}

static ssize_t unlock(int locked, ssize_t result) {
    int failed = errno;
    if (locked)
        pthread_mutex_unlock(&journal_lock);
    errno = failed;
    return result;
}

ssize_t write(int fd, const void *bytes, size_t len) {
    int locked = 0;
    if (disk_faults() && refuse_write(fd, -1, len, &locked))
        return -1;
    return unlock(locked, real_write(fd, bytes, len));
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    int locked = 0;
    if (disk_faults()) {
        uint64_t len = 0;
        for (int i = 0; i < count; i++)
            len += parts[i].iov_len;
        if (refuse_write(fd, -1, len, &locked))
            return -1;
    }
    return unlock(locked, real_writev(fd, parts, count));
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t offset) {
    int locked = 0;
    if (disk_faults() && refuse_write(fd, offset, len, &locked))
        return -1;
    return unlock(locked, real_pwrite64(fd, bytes, len, offset));
}

int ftruncate64(int fd, off64_t len) {
    char path[PATH_MAX];
    if (!journalling() || !data_path(fd, path))
        return real_ftruncate64(fd, len);
    pthread_mutex_lock(&journal_lock);
    note_change(fd, TRUNCATE, (uint64_t)len, 0);
    return (int)unlock(1, real_ftruncate64(fd, len));
}

static int sync_file(__typeof__(&fsync) real, int fd) {
    char path[PATH_MAX];
    if (!disk_faults() || !data_path(fd, path))
        return real(fd);
    if (get(&control->sync_delay_us)) {
        hit();
        usleep((useconds_t)get(&control->sync_delay_us));
    }
    if (get(&control->sync_errno)) {
        hit();
        errno = (int)get(&control->sync_errno);
        return -1;
    }
    if (!journalling())
        return real(fd);
    pthread_mutex_lock(&journal_lock);
    /* What is written while the sync runs is not covered by it. */
    uint64_t seq = ++journal_seq;
    pthread_mutex_unlock(&journal_lock);
    if (real(fd))
        return -1;
    struct stat stat;
    if (!fstat(fd, &stat)) {
        struct head head = {.kind = S_ISDIR(stat.st_mode) ? SYNC_DIR : SYNC, .seq = seq, .inode = stat.st_ino};
        pthread_mutex_lock(&journal_lock);
        note(head, path, NULL, NULL);
        pthread_mutex_unlock(&journal_lock);
    }
    return 0;
}

int fsync(int fd) { return sync_file(real_fsync, fd); }
int fdatasync(int fd) { return sync_file(real_fdatasync, fd); }

int rename(const char *from, const char *to) {
    if (!journalling() || !is_data(from))
        return real_rename(from, to);
    pthread_mutex_lock(&journal_lock);
    note((struct head){.kind = RENAME, .seq = ++journal_seq, .saved = keep(to)}, from, to, NULL);
    return (int)unlock(1, real_rename(from, to));
}

int unlink(const char *path) {
    if (!journalling() || !is_data(path))
        return real_unlink(path);
    pthread_mutex_lock(&journal_lock);
    note((struct head){.kind = UNLINK, .seq = ++journal_seq, .saved = keep(path)}, path, NULL, NULL);
    return (int)unlock(1, real_unlink(path));
}

/* ---- network ------------------------------------------------------------------------------------ */

int connect(int fd, const struct sockaddr *address, socklen_t len) {
    struct sockaddr_in routed;
    if (address && address->sa_family == AF_INET && len >= sizeof routed) {
        memcpy(&routed, address, sizeof routed);
        int64_t routes = get(&control->routes);
        for (int64_t i = 0; i < routes && i < ROUTES_MAX; i++)
            if (get(&control->route[i].port) == ntohs(routed.sin_port)) {
                routed.sin_port = htons((uint16_t)get(&control->route[i].proxy));
                return real_connect(fd, (struct sockaddr *)&routed, sizeof routed);
            }
    }
    return real_connect(fd, address, len);
}

/* ---- wall clock --------------------------------------------------------------------------------- */

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = real_clock_gettime(clock, now);
    if (result || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return result;
    int64_t offset_ns = get(&control->wall_offset_ns), drift_ppm = get(&control->wall_drift_ppm);
    if (drift_ppm) {
        struct timespec monotonic;
        real_clock_gettime(CLOCK_MONOTONIC, &monotonic);
        int64_t since_ns = monotonic.tv_sec * 1000000000LL + monotonic.tv_nsec - get(&control->wall_drift_since_ns);
        offset_ns += since_ns / 1000000 * drift_ppm;
    }
    if (offset_ns) {
        int64_t ns = now->tv_nsec + offset_ns % 1000000000LL;
        now->tv_sec += offset_ns / 1000000000LL + (ns < 0 ? -1 : ns / 1000000000LL);
        now->tv_nsec = ns < 0 ? ns + 1000000000LL : ns % 1000000000LL;
    }
    return 0;
}
