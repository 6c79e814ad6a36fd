/* Opens one name while another thread turns it from a file into a link and back, by every call
 * that opens. Prints for each whether the other end of the link was read, or lost its content. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *name, *target;
static volatile int stop;
static char spare[64];

static void *flip(void *unused)
{
    (void)unused;
    while (!stop)
        syscall(SYS_renameat2, AT_FDCWD, name, AT_FDCWD, spare, 2 /* RENAME_EXCHANGE */);
    return 0;
}

static long by_open(void) { return syscall(SYS_open, name, O_RDONLY); }
static long by_openat(void) { return syscall(SYS_openat, AT_FDCWD, name, O_RDONLY); }
static long by_openat2(void)
{
    struct open_how how = {.flags = O_RDONLY};
    return syscall(SYS_openat2, AT_FDCWD, name, &how, sizeof how);
}
static long by_path(void)
{
    char text[64];
    long path = syscall(SYS_openat, AT_FDCWD, name, O_PATH), result;
    snprintf(text, sizeof text, "/proc/self/fd/%ld", path);
    result = syscall(SYS_open, text, O_RDONLY);
    close(path);
    return result;
}

static int attempt(const char *label, long (*call)(void), const char *secret, int rounds)
{
    int hits = 0;
    for (int i = 0; i < rounds && !hits; i++) {
        char buffer[200] = {0};
        long fd = call();
        if (fd < 0)
            continue;
        if (read(fd, buffer, sizeof buffer - 1) > 0 && strstr(buffer, secret))
            hits++;
        close(fd);
    }
    printf("%s %d\n", label, hits);
    return hits;
}

int main(int argc, char **argv)
{
    const char *secret = argv[3];
    int rounds = atoi(argv[4]), hits = 0;
    pthread_t thread;
    struct stat status;
    (void)argc;
    name = argv[1];
    target = argv[2];
    if (access(".", W_OK)) { /* a project that cannot be written: its link is made in /tmp */
        if (chdir("/tmp"))
            return 1;
    }
    snprintf(spare, sizeof spare, "%s.spare", name);
    close(creat(name, 0644));
    if (symlink(target, spare))
        return 1;
    pthread_create(&thread, 0, flip, 0);
    attempt("open", by_open, secret, rounds);
    attempt("openat", by_openat, secret, rounds);
    attempt("openat2", by_openat2, secret, rounds);
    attempt("path", by_path, secret, rounds);
    for (int i = 0; i < rounds && !hits; i++) {
        long fd = syscall(SYS_creat, name, 0644);
        if (fd < 0)
            continue;
        /* The target's identity tells: it was not made here. */
        if (!fstat(fd, &status)) {
            char text[64], path[4096] = {0};
            snprintf(text, sizeof text, "/proc/self/fd/%ld", fd);
            if (readlink(text, path, sizeof path - 1) > 0 && !strcmp(path, target)) {
                hits++;
                if (write(fd, secret, strlen(secret)) < 0)
                    hits--;
            }
        }
        close(fd);
    }
    printf("creat %d\n", hits);
    stop = 1;
    pthread_join(thread, 0);
    return 0;
}
