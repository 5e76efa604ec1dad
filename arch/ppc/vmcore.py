"""What dumps of ppc are like."""

from dataclasses import replace

from pykexec.arch.powerpc.vmcore import part

# CONFIG_PAGE_OFFSET and CONFIG_LOWMEM_SIZE in arch/powerpc/Kconfig. The formula holds for all of that map.
PART = replace(part(0xC0000000, 0xF0000000, "mq"), is_image_bounded=False)
