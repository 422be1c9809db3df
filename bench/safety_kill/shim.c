// Counts the calls by which a process changes something outside itself (files, sockets, signals), and at the n-th one dies, fails or moves the clock.
// Preloaded (LD_PRELOAD); does nothing until shim_arm is called in the process that is to suffer.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { OFF = 0, COUNT = 1, KILL = 2, TORN = 3, FAIL = 4, CLOCK = 5 };
static volatile long calls = 0, at = 0, kill_at = 0;
static volatile int mode = OFF, error_number = 0;
static volatile long clock_offset = 0;
static volatile long moved = 0;

void shim_arm(int new_mode, long n, int number, long offset, long later) {
    calls = 0; at = n; error_number = number; clock_offset = offset; kill_at = later; moved = 0; mode = new_mode;
}
void shim_disarm(void) { mode = OFF; moved = 0; }
long shim_calls(void) { return calls; }

static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

static int regular(int fd) { struct stat s; return fstat(fd, &s) == 0 && S_ISREG(s.st_mode); }

// 1: the call must fail with errno set; 2: write half, then die
static int boundary(int fails, int writes) {
    if (mode == OFF) return 0;
    long now = __sync_add_and_fetch(&calls, 1);
    if (mode == CLOCK) { if (now >= at) moved = 1; if (kill_at && now == kill_at) die(); return 0; }
    if (now < at || mode == COUNT) return 0;
    if (mode == KILL && now == at) die();
    if (mode == TORN && now == at) { if (writes) return 2; die(); }
    if (mode == FAIL && fails) { errno = error_number; return 1; }
    return 0;
}

#define REAL(name) static __typeof__(&name) real = NULL; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    int what = boundary(regular(fd), 1);
    if (what == 1) return -1;
    if (what == 2) { ssize_t half = real(fd, data, size / 2); (void)half; die(); }
    return real(fd, data, size);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t where) {
    REAL(pwrite64);
    int what = boundary(1, 1);
    if (what == 1) return -1;
    if (what == 2) { ssize_t half = real(fd, data, size / 2, where); (void)half; die(); }
    return real(fd, data, size, where);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t where) {
    REAL(pwrite);
    int what = boundary(1, 1);
    if (what == 1) return -1;
    if (what == 2) { ssize_t half = real(fd, data, size / 2, where); (void)half; die(); }
    return real(fd, data, size, where);
}
int fsync(int fd) { REAL(fsync); return boundary(1, 0) == 1 ? -1 : real(fd); }
int fdatasync(int fd) { REAL(fdatasync); return boundary(1, 0) == 1 ? -1 : real(fd); }
int rename(const char *from, const char *to) { REAL(rename); return boundary(1, 0) == 1 ? -1 : real(from, to); }
int renameat(int a, const char *from, int b, const char *to) { REAL(renameat); return boundary(1, 0) == 1 ? -1 : real(a, from, b, to); }
int unlink(const char *path) { REAL(unlink); boundary(0, 0); return real(path); }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); return boundary(1, 0) == 1 ? -1 : real(fd, size); }
int ftruncate(int fd, off_t size) { REAL(ftruncate); return boundary(1, 0) == 1 ? -1 : real(fd, size); }
int chmod(const char *path, mode_t bits) { REAL(chmod); boundary(0, 0); return real(path, bits); }
int fchmod(int fd, mode_t bits) { REAL(fchmod); boundary(0, 0); return real(fd, bits); }
int chown(const char *path, uid_t u, gid_t g) { REAL(chown); boundary(0, 0); return real(path, u, g); }
int fchown(int fd, uid_t u, gid_t g) { REAL(fchown); boundary(0, 0); return real(fd, u, g); }
int connect(int fd, const struct sockaddr *address, socklen_t size) { REAL(connect); boundary(0, 0); return real(fd, address, size); }
ssize_t send(int fd, const void *data, size_t size, int flags) { REAL(send); boundary(0, 0); return real(fd, data, size, flags); }
ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length) {
    REAL(sendto); boundary(0, 0); return real(fd, data, size, flags, to, length);
}
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) { REAL(sendmsg); boundary(0, 0); return real(fd, message, flags); }
int kill(pid_t pid, int number) {
    REAL(kill);
    if (!(number == SIGKILL && pid == getpid()) && number != 0) boundary(0, 0);
    return real(pid, number);
}
static int opened(int flags) { return (flags & O_CREAT) ? boundary(1, 0) : 0; }
int open64(const char *path, int flags, ...) {
    REAL(open64); va_list rest; va_start(rest, flags); mode_t bits = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; va_end(rest);
    return opened(flags) == 1 ? -1 : real(path, flags, bits);
}
int open(const char *path, int flags, ...) {
    REAL(open); va_list rest; va_start(rest, flags); mode_t bits = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; va_end(rest);
    return opened(flags) == 1 ? -1 : real(path, flags, bits);
}
int clock_gettime(clockid_t id, struct timespec *now) {
    REAL(clock_gettime);
    int done = real(id, now);
    if (!done && moved && id == CLOCK_REALTIME) now->tv_sec += clock_offset;
    return done;
}
