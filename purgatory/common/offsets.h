/* SPDX-License-Identifier: BSD-3-Clause */
/* Fields of struct params for the assembler; purgatory.c checks them against the struct. */
#define PARAMS_JUMP_TO   16
#define PARAMS_ARGUMENTS 24
