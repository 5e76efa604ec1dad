"""What x86_64 and i386 share: Linux's boot protocol (Documentation/arch/x86/boot.rst), Multiboot, ACPI."""
