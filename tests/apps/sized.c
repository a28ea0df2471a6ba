/* Runs the model `sized` for every number up to beyond its largest size: the header says which are one. */
#include "sized.h"
#include <stdio.h>

static unsigned char arena[SIZED_ARENA_BYTES + 1] __attribute__((aligned(SIZED_ARENA_ALIGN)));
static float x[3 * SIZED_LENGTH_MAX], y[3 * SIZED_Y_DIM2_MAX];

int main(void) {
    int64_t n, columns;
    int ran = 0, refused = 0;
    for (n = -SIZED_LENGTH_STEP; n <= SIZED_LENGTH_MAX + SIZED_LENGTH_STEP; n++) {
        int is_size = n >= SIZED_LENGTH_MIN && n <= SIZED_LENGTH_MAX &&
                      (n - SIZED_LENGTH_MIN) % SIZED_LENGTH_STEP == 0;
        int32_t status = sized_run(x, y, n, &columns, arena);
        if (status != (is_size ? LMC_OK : LMC_ERR_SYMBOL)) {
            printf("%d: status %d\n", (int)n, (int)status);
            return 1;
        }
        ran += is_size;
        refused += !is_size;
    }
    printf("%d to %d: %d ran, %d refused\n", SIZED_LENGTH_MIN, SIZED_LENGTH_MAX, ran, refused);
    return 0;
}
