/* replay.c: runs a fuzz target over each file that is named, for builds without libFuzzer and for `make check`. */
#include "fuzz.h"

#include <string.h>

int main(int argc, char *argv[])
{
    static uint8_t data[1 << 20];
    int files = 0;

    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "r");
        if (file == NULL) {
            perror(argv[i]);
            return 1;
        }
        size_t size = fread(data, 1, sizeof data, file);
        fclose(file);
        /* A copy of just that size, so that a sanitizer sees every step beyond it. */
        uint8_t *copy = malloc(size + 1);
        memcpy(copy, data, size);
        LLVMFuzzerTestOneInput(copy, size);
        free(copy);
        files++;
    }
    printf("%s: %d inputs\n", argv[0], files);
    return files > 0 ? 0 : 1;
}
