/* What a request at a fixed rate costs a program that does nothing else: the floor below every load generator on this machine.
 * floor MODE RATE SECONDS PORT; prints CPU microseconds per request, of which in user mode, and lateness p50 and p99.
 *   timer    only wakes up at each arrival, sends nothing
 *   patient  wakes up at arrivals only, sends, and reads what has come for the arrival before
 *   eager    also wakes up for each answer
 *   spin     never sleeps: the time inside send and recv alone */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define PEERS 4
static const char REQUEST[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: floor\r\nAccept: */*\r\n\r\n";
static char buffer[65536];

static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}
static struct timespec spec(long ns) { return (struct timespec){ns / 1000000000L, ns % 1000000000L}; }
static int less(const void *a, const void *b) { return *(long *)a < *(long *)b ? -1 : 1; }

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    const char mode = argv[1][0];
    const long rate = atol(argv[2]), count = rate * atol(argv[3]), step = 1000000000L / rate;
    int peer[PEERS], one = 1, poll = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    long *late = malloc(count * sizeof *late), inside = 0, answered = 0;
    prctl(PR_SET_TIMERSLACK, 1);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[4])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN, .data.fd = -1}, events[PEERS + 1];
    epoll_ctl(poll, EPOLL_CTL_ADD, timer, &event);
    for (int i = 0; i < PEERS; i++) {
        peer[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(peer[i], (void *)&to, sizeof to)) return 3;
        setsockopt(peer[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        event = (struct epoll_event){.events = EPOLLIN, .data.fd = peer[i]};
        if (mode == 'e') epoll_ctl(poll, EPOLL_CTL_ADD, peer[i], &event);
    }
    struct rusage a, b;
    getrusage(RUSAGE_SELF, &a);
    long due = now() + 1000000;
    for (long n = 0; n < count; n++, due += step) {
        struct timespec at = spec(due);
        if (mode == 's') {
            while (now() < due) {}
        } else if (mode == 'e') {
            struct itimerspec arm = {.it_value = at};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &arm, NULL);
            for (int fired = 0; !fired;) {
                int ready = epoll_wait(poll, events, PEERS + 1, -1);
                for (int i = 0; i < ready; i++) {
                    if (events[i].data.fd < 0) fired = 1;
                    else if (recv(events[i].data.fd, buffer, sizeof buffer, MSG_DONTWAIT) > 0) answered++;
                }
            }
        } else {
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
        }
        long woken = now();
        late[n] = woken - due;
        if (mode == 't') continue;
        if (send(peer[n % PEERS], REQUEST, sizeof REQUEST - 1, 0) < 0) return 4;
        long sent = now();
        inside += sent - woken;
        if (mode != 'e' && n && recv(peer[(n - 1) % PEERS], buffer, sizeof buffer, MSG_DONTWAIT) > 0) answered++;
    }
    getrusage(RUSAGE_SELF, &b);
    double user = (b.ru_utime.tv_sec - a.ru_utime.tv_sec) * 1e6 + (b.ru_utime.tv_usec - a.ru_utime.tv_usec);
    double kernel = (b.ru_stime.tv_sec - a.ru_stime.tv_sec) * 1e6 + (b.ru_stime.tv_usec - a.ru_stime.tv_usec);
    qsort(late, count, sizeof *late, less);
    printf("{\"cpu_us\": %.2f, \"user_us\": %.2f, \"send_us\": %.2f, \"late_p50_us\": %.1f, \"late_p99_us\": %.1f, \"answered\": %ld, \"sent\": %ld}\n",
           (user + kernel) / count, user / count, inside / 1e3 / count, late[count / 2] / 1e3, late[count * 99 / 100] / 1e3, answered, count);
    return 0;
}
