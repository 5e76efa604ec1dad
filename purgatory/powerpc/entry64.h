/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The entry code of 64-bit POWER, of either byte order (LITTLE is defined, or not).
 *
 * Entered from kexec_sequence (arch/powerpc/kernel/misc_64.S), in real mode, in the running kernel's byte order, with
 * interrupts off: r3 is this CPU's physical number. The running kernel has copied the first 256 bytes of this to
 * address 0, where the other CPUs go on at 0x60. So all of them but the first word are the new kernel's: the loader
 * puts them here. Left as a kernel takes it from Open Firmware (Documentation/arch/powerpc/booting.rst), which is
 * big-endian: r3 the device tree, r4 the kernel, r5 zero; r8 and r9 are OPAL's base and entry.
 */
#include "offsets.h"

#define MSR_LE 1
#define BOOT_CPU 28 /* boot_cpuid_phys in a device tree's header, big-endian */
#define OPAL 2      /* enum firmware */

#ifdef LITTLE
#define STORE_BIG_ENDIAN stwbrx
/* What is executed in big-endian mode. */
#define BIG_ENDIAN(word) .long (((word) & 0xff) << 24 | ((word) & 0xff00) << 8 | ((word) >> 8 & 0xff00) | ((word) >> 24 & 0xff))
#else
#define STORE_BIG_ENDIAN stwx
#define BIG_ENDIAN(word) .long word
#endif
#define MTSRR0_R30 0x7fda03a6
#define MTSRR1_R31 0x7ffb03a6
#define RFID       0x4c000024
#define B_ITSELF   0x48000000

	.hidden	purgatory
	.hidden	purgatory_params
	.hidden	opal_call
	.hidden	rtas_enter

	.section .head.text, "ax"
	.globl	purgatory_entry
	.type	purgatory_entry, @function
	.balign	256
purgatory_entry:
	b	begin
	.skip	0x100 - 4

begin:
	mr	31, 3
	bcl	20, 31, 0f
0:	mflr	12
	addis	2, 12, (.TOC. - 0b)@ha
	addi	2, 2, (.TOC. - 0b)@l
	addis	1, 12, (stack_end - 0b)@ha
	addi	1, 1, (stack_end - 0b)@l
	li	0, 0
	stdu	0, -32(1)
	bl	purgatory
	nop

	/* The other CPUs leave the old kernel's code, over which the new one may copy itself. */
	lis	4, 1
	mtctr	4
0:	bdnz	0b

	addis	30, 2, purgatory_params@toc@ha
	addi	30, 30, purgatory_params@toc@l
	ld	3, PARAMS_ARGUMENTS(30)
	li	4, BOOT_CPU
	STORE_BIG_ENDIAN 31, 4, 3
	ld	4, PARAMS_JUMP_TO(30)
	li	5, 0
	li	6, 0
	li	7, 0
	li	8, 0
	li	9, 0
	lwz	10, PARAMS_RESET(30)
	cmplwi	10, OPAL
	bne	0f
	ld	8, PARAMS_ARGUMENTS + 8(30)
	ld	9, PARAMS_ARGUMENTS + 16(30)
0:	mfmsr	11
	li	12, MSR_LE
	andc	11, 11, 12
	mtsrr0	4
	mtsrr1	11
	rfid
	.size	purgatory_entry, . - purgatory_entry

/* rtas_enter(arguments, base, entry): to 32-bit big-endian mode; all addresses are below 4 GiB. Never returns. */
	.globl	rtas_enter
	.type	rtas_enter, @function
rtas_enter:
	bcl	20, 31, 0f
0:	mflr	6
	addi	6, 6, 1f - 0b
	mtlr	6
	mfmsr	6
	rldicl	6, 6, 0, 1 /* not SF */
	rldicr	6, 6, 0, 61 /* neither RI nor LE */
	mtsrr0	5
	mtsrr1	6
	rfid
1:	BIG_ENDIAN(B_ITSELF)
	.size	rtas_enter, . - rtas_enter

/* long opal_call(a, b, c, token, base, entry): as OPAL's ABI has it; it returns in big-endian mode. */
	.globl	opal_call
	.type	opal_call, @function
opal_call:
	mflr	0
	std	0, 16(1)
	std	30, -16(1)
	std	31, -8(1)
	std	2, 24(1)
	stdu	1, -64(1)
	bcl	20, 31, 0f
0:	mflr	30
	addi	9, 30, 1f - 0b
	addi	30, 30, 2f - 0b
	mtlr	9
	mfmsr	31
	li	10, MSR_LE
	andc	11, 31, 10
	mtsrr0	8
	mtsrr1	11
	mr	0, 6
	mr	2, 7
	rfid
1:	BIG_ENDIAN(MTSRR0_R30)
	BIG_ENDIAN(MTSRR1_R31)
	BIG_ENDIAN(RFID)
2:	addi	1, 1, 64
	ld	2, 24(1)
	ld	0, 16(1)
	mtlr	0
	ld	30, -16(1)
	ld	31, -8(1)
	blr
	.size	opal_call, . - opal_call

	.section .bss, "aw", @nobits
	.balign	16
	.skip	8192
stack_end:

	.section .note.GNU-stack, "", @progbits
