/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Entered in one of three ways, with DAT and interrupts off (arch/s390/kernel/machine_kexec.c, relocate_kernel.S):
 *
 * a boot		with the short PSW of a load: 31-bit addressing, perhaps ESA/390 mode, registers undefined
 * a crash, r2 = 0	64-bit addressing, in the crashed kernel, whose other CPUs still run: to verify. It has to have
 *			its registers r6 to r15 back, and 0 in r2 if it may go on to the second call
 * a crash, r2 = 1	64-bit addressing, the other CPUs stopped, the machine reset: to start the kernel
 *
 * The capture kernel runs at 0, where the crashed one has its memory. So the two exchange places.
 */
#include "offsets.h"

#define SET_ARCHITECTURE 0x12 /* a SIGP order (Principles of Operation, chapter 4) */
#define ZARCH            2    /* its parameter */
#define FRAME            160  /* below a called function's stack pointer (s390x ELF ABI) */

/* Principles of Operation, chapter 3: assigned storage locations */
#define EXTERNAL_OLD_PSW 0x130
#define EXTERNAL_NEW_PSW 0x1b0

	.hidden	exchange
	.hidden	give_up
	.hidden	purgatory
	.hidden	purgatory_params
	.hidden	take_service_signal

	.section .head.text, "ax"
	.globl	purgatory_entry
	.type	purgatory_entry, @function
	.balign	8
purgatory_entry:
	tam
	jo	crash

	lhi	%r0, 0 # this CPU's address does not matter
	lhi	%r1, ZARCH
	sigp	%r1, %r0, SET_ARCHITECTURE
	sam64
	larl	%r15, stack_end - FRAME
	brasl	%r14, purgatory
	larl	%r1, purgatory_params
	lg	%r1, PARAMS_JUMP_TO(%r1)
	sam31
	br	%r1

crash:
	larl	%r1, kept
	stmg	%r6, %r15, 0(%r1)
	larl	%r15, stack_end - FRAME
	ltgr	%r2, %r2
	jnz	start
	brasl	%r14, purgatory
	lghi	%r2, 0
answer:
	larl	%r1, kept
	lmg	%r6, %r15, 0(%r1)
	br	%r14

start:
	larl	%r1, purgatory_params
	lmg	%r2, %r3, PARAMS_ARGUMENTS(%r1)
	brasl	%r14, exchange
	larl	%r1, purgatory_params
	lg	%r1, PARAMS_JUMP_TO(%r1)
	br	%r1

	/* Tell the crashed kernel not to make the second call. */
	.globl	give_up
	.type	give_up, @function
give_up:
	lghi	%r2, 1
	j	answer
	.size	purgatory_entry, . - purgatory_entry

	/*
	 * Take the interruption that says that the service processor is done, if one is pending: no next command is
	 * taken before. The place for its new PSW is in the lowcore, which gets back what it had.
	 */
	.globl	take_service_signal
	.type	take_service_signal, @function
take_service_signal:
	larl	%r1, lowcore
	stctg	%c0, %c0, 0(%r1)
	larl	%r2, only_service_signals
	lctlg	%c0, %c0, 0(%r2)
	mvc	8(16, %r1), EXTERNAL_NEW_PSW(%r0)
	larl	%r2, disabled
	mvc	EXTERNAL_NEW_PSW(8, %r0), 0(%r2)
	larl	%r2, taken
	stg	%r2, EXTERNAL_NEW_PSW + 8(%r0)
	stosm	24(%r1), 0x01
	stnsm	24(%r1), 0xfe
	mvc	EXTERNAL_NEW_PSW(16, %r0), 8(%r1)
	lctlg	%c0, %c0, 0(%r1)
	br	%r14
taken:
	lpswe	EXTERNAL_OLD_PSW(%r0)
	.size	take_service_signal, . - take_service_signal

	.section .rodata
	.balign	8
only_service_signals: # control register 0: subclass mask of these alone, and no low-address protection
	.quad	0x200
disabled: # the mask of a PSW for 64-bit addressing
	.quad	0x0000000180000000

	.section .bss, "aw", @nobits
	.balign	8
kept: # r6 to r15
	.skip	10 * 8
lowcore: # control register 0, the external new PSW, and a byte of the PSW's mask
	.skip	8 + 16 + 8
	.skip	4096
	.balign	8
stack_end:

	.section .note.GNU-stack, "", @progbits
