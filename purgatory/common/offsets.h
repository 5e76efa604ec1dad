/* SPDX-License-Identifier: BSD-3-Clause */
/* For the assembler; arch.c checks them against the struct. */
#define PARAMS_JUMP_TO   16
#define PARAMS_ARGUMENTS 24

#define BOOT_CS 0x10
#define BOOT_DS 0x18
