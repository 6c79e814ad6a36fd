/* Opens a file through the 32-bit entry, whose numbers mean other calls: 5 is open there. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    /* The old entry takes 32-bit addresses. */
    char *low = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    long result;
    (void)argc;
    strcpy(low, argv[1]);
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(5), "b"(low), "c"(0), "d"(0) : "memory");
    if (result >= 0)
        puts("opened");
    return 0;
}
