/* SPDX-License-Identifier: BSD-3-Clause */
/* What x86_64's and i386's arch.c share: a PC's consoles, how it is reset, and copying. Each includes this once. */
#ifndef PC_H
#define PC_H

#include "purgatory.h"

/* 8250 registers and bits (the names of include/uapi/linux/serial_reg.h) */
enum { UART_TX = 0, UART_DLL = 0, UART_DLM = 1, UART_LCR = 3, UART_LSR = 5 };
enum { UART_LSR_THRE = 0x20, UART_LCR_8_BITS = 0x03, UART_LCR_DLAB = 0x80 };

/* Text mode: 16 bits each, attribute and character. */
enum { VGA_TEXT = 0xb8000, VGA_COLUMNS = 80, VGA_LINES = 25, VGA_LIGHT_GREY = 0x0700 };

/* Long enough for a byte at 1200 baud: a port access takes about a microsecond. */
enum { POLLS_MAX = 20000 };

void triple_fault(void) __attribute__((noreturn));

static inline void outb(u16 port, u8 value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline u8 inb(u16 port)
{
	u8 value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

/* At the foot of the screen, scrolling: what the old kernel wrote last stays in sight. */
static void put_vga(u8 byte)
{
	static u32 column = VGA_COLUMNS; /* whatever stands in the last line, begin another */
	volatile u16 *screen = (volatile u16 *)VGA_TEXT;
	volatile u16 *last = screen + VGA_COLUMNS * (VGA_LINES - 1);

	if (byte == '\r')
		return;
	if (byte == '\n' || column == VGA_COLUMNS) {
		for (u32 i = 0; i < VGA_COLUMNS * (VGA_LINES - 1); i++)
			screen[i] = screen[i + VGA_COLUMNS];
		for (u32 i = 0; i < VGA_COLUMNS; i++)
			last[i] = VGA_LIGHT_GREY | ' ';
		column = 0;
	}
	if (byte != '\n')
		last[column++] = VGA_LIGHT_GREY | byte;
}

static void set_speed(u16 base, u32 divisor)
{
	outb((u16)(base + UART_LCR), UART_LCR_8_BITS | UART_LCR_DLAB);
	outb((u16)(base + UART_DLL), (u8)divisor);
	outb((u16)(base + UART_DLM), (u8)(divisor >> 8));
	outb((u16)(base + UART_LCR), UART_LCR_8_BITS);
}

void arch_put_byte(u8 byte)
{
	u16 base = (u16)purgatory_params.console_base;

	if (purgatory_params.flags & FLAG_VGA)
		put_vga(byte);
	if (purgatory_params.console != CONSOLE_8250_PORT)
		return;
	if (purgatory_params.console_divisor) {
		set_speed(base, purgatory_params.console_divisor);
		purgatory_params.console_divisor = 0;
	}
	/* An absent UART reads as 0xff, which is "ready": the byte goes nowhere, and nothing waits. */
	for (int i = 0; i < POLLS_MAX && !(inb((u16)(base + UART_LSR)) & UART_LSR_THRE); i++)
		;
	outb((u16)(base + UART_TX), byte);
}

void arch_copy(u64 destination, u64 source, u64 size)
{
	unsigned long to = (unsigned long)destination, from = (unsigned long)source, bytes = (unsigned long)size;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}

static void delay(void)
{
	for (int i = 0; i < 50000; i++)
		inb(0x80); /* the POST port: an access takes about a microsecond and does nothing */
}

/* The ways of arch/x86/kernel/reboot.c that need no firmware: keyboard controller, chipset, triple fault. */
void arch_reset(void)
{
	outb(0x64, 0xfe);
	delay();
	outb(0xcf9, 0x02);
	outb(0xcf9, 0x06);
	delay();
	triple_fault();
}

#endif
