/*
 * A plugin of QEMU's user-mode emulator (plugin API 1): counts the instructions between two marks.
 *
 *   gcc -O2 -shared -fPIC roi.c -o roi.so;  qemu-aarch64 -plugin ./roi.so[,dump=FILE] PROGRAM
 *
 * The program calls prctl(0x524f4931, 1) where counting begins and prctl(0x524f4931, 2) where it
 * ends; compiler/src/run/driver.c does. Counts are exact. On stderr: one line of NAME=COUNT.
 * With dump=FILE: each executed block as `address instructions executions bytes`, for mca.py.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The few functions of qemu-plugin.h that are used, so that its header need not be installed. */
typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
typedef void (*syscall_callback)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                                 uint64_t, uint64_t, uint64_t);
extern void qemu_plugin_register_vcpu_syscall_cb(plugin_id, syscall_callback);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

enum { BUCKETS = 65536, PRCTL = 167, MARK = 0x524f4931 };

typedef struct block {
    struct block *next;
    uint64_t address, instructions, executions;
    uint32_t *words;
} block;

static block *blocks[BUCKETS];
static const char *dump;

/* Classes of instructions worth knowing in numeric code. */
static int is_load_store(uint32_t w) { return (w & 0x0a000000) == 0x08000000; }
static int is_fmla(uint32_t w) { return (w & 0xbfa0fc00) == 0x0e20cc00 || (w & 0xbf80f400) == 0x0f801000; }
static int is_dot(uint32_t w) { return (w & 0x9f20f400) == 0x0e009400 || (w & 0x9f00e400) == 0x0f00e000; }
static int is_mmla(uint32_t w) { return (w & 0xdfe0f400) == 0x4e80a400; }

static void report(void) {
    uint64_t total = 0, loads = 0, fmla = 0, dot = 0, mmla = 0;
    FILE *file = dump ? fopen(dump, "w") : NULL;
    for (int bucket = 0; bucket < BUCKETS; bucket++) {
        for (block *b = blocks[bucket]; b; b = b->next) {
            if (!b->executions) continue;
            total += b->executions * b->instructions;
            if (file) fprintf(file, "%lx %lu %lu ", b->address, b->instructions, b->executions);
            for (uint64_t i = 0; i < b->instructions; i++) {
                uint32_t w = b->words[i];
                loads += b->executions * is_load_store(w);
                fmla += b->executions * is_fmla(w);
                dot += b->executions * is_dot(w);
                mmla += b->executions * is_mmla(w);
                if (file) fprintf(file, "%08x", __builtin_bswap32(w));
            }
            if (file) fputc('\n', file);
        }
    }
    fprintf(stderr, "roi instructions=%lu load_store=%lu fmla=%lu dot=%lu mmla=%lu\n", total, loads, fmla, dot, mmla);
    if (file) fclose(file);
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb) {
    uint64_t address = qemu_plugin_tb_vaddr(tb), n = qemu_plugin_tb_n_insns(tb);
    block **bucket = &blocks[(address >> 2 ^ address >> 18) % BUCKETS], *b = *bucket;
    (void)id;
    while (b && (b->address != address || b->instructions != n)) b = b->next;
    if (!b) {
        b = calloc(1, sizeof *b);
        b->address = address;
        b->instructions = n;
        b->words = malloc(n * sizeof *b->words);
        for (uint64_t i = 0; i < n; i++) memcpy(&b->words[i], qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), 4);
        b->next = *bucket;
        *bucket = b;
    }
    qemu_plugin_register_vcpu_tb_exec_inline(tb, 0 /* add */, &b->executions, 1);
}

static void called(plugin_id id, unsigned cpu, int64_t number, uint64_t what, uint64_t mark, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
    (void)id, (void)cpu, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number != PRCTL || what != MARK) return;
    if (mark == 1) {
        for (int i = 0; i < BUCKETS; i++) {
            for (block *b = blocks[i]; b; b = b->next) b->executions = 0;
        }
    }
    if (mark == 2) report();
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "dump=", 5)) dump = strdup(argv[i] + 5);
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
