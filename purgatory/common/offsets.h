/* SPDX-License-Identifier: BSD-3-Clause */
/* Fields of struct params for the assembler; purgatory.c checks them against the struct. */
#define PARAMS_FLAGS           12
#define PARAMS_JUMP_TO         16
#define PARAMS_ARGUMENTS       24
#define PARAMS_CONSOLE_BASE    64
#define PARAMS_JUMP_BACK_ENTRY 112
#define PARAMS_RESET           124

#define CALLED 4 /* FLAG_CALLED */
