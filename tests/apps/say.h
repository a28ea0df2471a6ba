/* Output of the test programs, on a system or on bare metal. */
#ifndef SAY_H
#define SAY_H
#ifdef BARE_METAL
void say(const char *text);
#else
#include <stdio.h>
static inline void say(const char *text) { fputs(text, stdout); }
#endif
#endif
