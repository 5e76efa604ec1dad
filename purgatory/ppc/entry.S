/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Entered from relocate_new_kernel (arch/powerpc/kexec/relocate_32.S), with interrupts off, and this CPU's number in r3.
 * On classic cores the MMU is off; on BookE's it cannot be: the running kernel has mapped the first 2 GiB to themselves,
 * and nothing else. All other CPUs stay in the running kernel, so that none needs a place to wait here. Left as a kernel
 * takes it from a boot loader (Documentation/arch/powerpc/booting.rst): r3 the device tree, r4 the kernel, r5 zero.
 */
#include "offsets.h"

#define BOOT_CPU 28 /* boot_cpuid_phys in a device tree's header */
#define LOW 4 /* the low word of a number of 64 bits */

/* Relocations (Elf32_Rela) */
#define RELA_OFFSET 0
#define RELA_ADDEND 8
#define RELA_SIZE   12

/* EREF: A Programmer's Reference Manual for Freescale Power Architecture Processors, 6.5: MMU assist registers */
#define MAS0 624
#define MAS1 625
#define MAS2 626
#define MAS3 627
#define MAS0_TLB1           0x1000 /* in the high half */
#define MAS1_VALID_IPROT    0xc000 /* in the high half */
#define MAS1_4K             0x0100
#define MAS2_UNCACHED       0x000a /* I, G */
#define MAS3_READ_WRITE     0x0005 /* SR, SW */

/*
 * The last entries of the smallest TLB1: the running kernel took others, and has emptied these. The pages stand where
 * nothing is mapped.
 */
#define CONSOLE_ENTRY 15
#define CONSOLE_PAGE  0xf000
#define RESET_ENTRY   14
#define RESET_PAGE    0xf001

	.hidden	purgatory
	.hidden	purgatory_params
	.hidden	image_start
	.hidden	relocations_start
	.hidden	relocations_end

	.section .head.text, "ax"
	.globl	purgatory_entry
	.type	purgatory_entry, @function
purgatory_entry:
	mr	28, 3
	bcl	20, 31, 0f
0:	mflr	31
	addis	30, 31, (image_start - 0b)@ha
	addi	30, 30, (image_start - 0b)@l
	addis	1, 31, (stack_end - 0b)@ha
	addi	1, 1, (stack_end - 0b)@l
	li	0, 0
	stwu	0, -16(1)

	/* All are R_PPC_RELATIVE, as tools/build-purgatory makes sure of. */
	addis	4, 31, (relocations_start - 0b)@ha
	addi	4, 4, (relocations_start - 0b)@l
	addis	5, 31, (relocations_end - 0b)@ha
	addi	5, 5, (relocations_end - 0b)@l
1:	cmplw	4, 5
	bge	2f
	lwz	6, RELA_OFFSET(4)
	lwz	7, RELA_ADDEND(4)
	add	7, 7, 30
	stwx	7, 6, 30
	addi	4, 4, RELA_SIZE
	b	1b

2:	addis	29, 31, (purgatory_params - 0b)@ha
	addi	29, 29, (purgatory_params - 0b)@l
	lwz	3, PARAMS_CONSOLE_BASE + LOW(29)
	cmplwi	3, 0
	beq	3f
	li	4, CONSOLE_ENTRY
	lis	5, CONSOLE_PAGE
	bl	map_page
	stw	3, PARAMS_CONSOLE_BASE + LOW(29)
3:	lwz	3, PARAMS_ARGUMENTS + 8 + LOW(29)
	cmplwi	3, 0
	beq	4f
	li	4, RESET_ENTRY
	lis	5, RESET_PAGE
	bl	map_page
	stw	3, PARAMS_ARGUMENTS + 8 + LOW(29)

4:	bl	purgatory

	lwz	3, PARAMS_ARGUMENTS + LOW(29)
	stw	28, BOOT_CPU(3)
	lwz	4, PARAMS_JUMP_TO + LOW(29)
	li	5, 0
	li	6, 0
	li	7, 0
	mtctr	4
	bctr
	.size	purgatory_entry, . - purgatory_entry

/* u32 map_page(physical, entry, page): have a device's page there, by that entry of TLB1; returns where it is then. */
	.type	map_page, @function
map_page:
	slwi	4, 4, 16
	oris	4, 4, MAS0_TLB1
	mtspr	MAS0, 4
	lis	4, MAS1_VALID_IPROT
	ori	4, 4, MAS1_4K
	mtspr	MAS1, 4
	ori	4, 5, MAS2_UNCACHED
	mtspr	MAS2, 4
	rlwinm	4, 3, 0, 0, 19
	ori	4, 4, MAS3_READ_WRITE
	mtspr	MAS3, 4
	isync
	tlbwe
	isync
	rlwimi	5, 3, 0, 20, 31
	mr	3, 5
	blr
	.size	map_page, . - map_page

	.section .bss, "aw", @nobits
	.balign	16
	.skip	8192
stack_end:

	.section .note.GNU-stack, "", @progbits
