/* Start of a bare-metal program on QEMU's `virt` machine: stack, floating point, main, exit.
   Any exception ends the program with code 99. */
    .section .text.start, "ax"
    .global _start
_start:
    ldr x0, =stack_top
    mov sp, x0
    mov x0, #(3 << 20)          /* CPACR_EL1.FPEN: floating point and NEON do not trap */
    msr cpacr_el1, x0
    ldr x0, =vectors
    msr vbar_el1, x0
    isb
    ldr x0, =bss_start
    ldr x1, =bss_end
clear:
    cmp x0, x1
    b.hs ready
    str xzr, [x0], #8
    b clear
ready:
    bl main
    bl finish

fault:
    mov w0, #99
    bl finish

    .balign 2048
vectors:
    .rept 16
    .balign 128
    b fault
    .endr
