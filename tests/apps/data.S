/* The input and the expected output of the test programs, from files given as -DINPUT="..." and
   -DEXPECTED="...". */
    .section .rodata
    .balign 64
    .global input, expected
input:
    .incbin INPUT
    .balign 64
expected:
    .incbin EXPECTED
    .section .note.GNU-stack, "", %progbits
